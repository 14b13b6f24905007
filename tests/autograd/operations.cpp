// Every public operation: its gradient against central differences, the cpu backend against
// reference.
//
// How to add a row: declare the operation in operations.h or nn/functional.h; write a row with its
// name and the names of its parameters in rows_*.cpp, with a case for each form that takes another
// path (broadcast or not, one chunk or several). Everything else follows. A declaration without a
// row fails by its name.
#include <algorithm>
#include <fstream>
#include <regex>

#include "autograd/operation.h"

namespace accrue::test {
namespace {

std::vector<OperationRow> table() {
  std::vector<OperationRow> rows = plain_rows();
  for (const auto& more : {neural_rows(), loss_rows()})
    rows.insert(rows.end(), more.begin(), more.end());
  return rows;
}

/// "gelu(x)" for each `Var gelu(const Var& x);` in a header.
std::vector<std::string> declarations(const std::string& header, const std::string& result) {
  std::ifstream file(source_root() / header);
  REQUIRE_MESSAGE(file.good(), header << " cannot be read");
  const std::string all((std::istreambuf_iterator<char>(file)), {});
  const std::regex declaration("(?:^|\n)" + result + " ([a-z_]+|operator.)\\(([^)]*)\\)"),
      parameter("([a-z_]+)(?: = [^,]*)?(?:,|$)");
  std::vector<std::string> names;
  for (std::sregex_iterator one(all.begin(), all.end(), declaration), end; one != end; ++one) {
    const std::string inside = (*one)[2];
    std::string parameters;
    for (std::sregex_iterator p(inside.begin(), inside.end(), parameter); p != end; ++p)
      parameters += (parameters.empty() ? "" : ", ") + std::string((*p)[1]);
    names.push_back(std::string((*one)[1]) + '(' + parameters + ')');
  }
  return names;
}

std::vector<std::string> declared() {
  std::vector<std::string> names = declarations("autograd/recompute.h", "auto");
  for (const char* header : {"autograd/operations.h", "nn/functional.h"})
    for (const char* result : {"Var", "Loss", "SumAndNorm"})
      for (const std::string& name : declarations(header, result)) names.push_back(name);
  return names;
}

std::vector<std::string> missing(const std::vector<OperationRow>& rows) {
  std::vector<std::string> names;
  for (const std::string& name : declared())
    if (std::ranges::none_of(rows, [&](const OperationRow& row) {
          return row.declaration == name && !row.cases.empty();
        }))
      names.push_back(name);
  return names;
}

template <class F>
void for_each_case(const F& f) {
  for (const OperationRow& row : table())
    for (const OperationCase& one : row.cases) {
      INFO(row.declaration << ": " << one.name);
      f(one);
    }
}

std::vector<bool> all_of(const OperationCase& one) {
  return std::vector<bool>(one.inputs.size(), true);
}

// Sums of n terms are off by at most n·u (one rounding per term, in f32 on the cpu even for bf16
// and f16); what is stored on the way or at the end in the dtype is off by its u each time: inputs
// of kernels inside, value, gradient, and what they pass on, eight roundings at most in a case
// here.
double allowed(const OperationCase& one, DType type) {
  return 8 * roundoff(type) + static_cast<double>(one.terms) * roundoff(wide(type));
}

// Rules with one thing wrong with them.
struct WrongSquare {
  double factor;       // 2 is right
  bool forgets_write;  // always sets
  Tensor forward(Saved& saved, const Tensor& x) const {
    Tensor y = empty_like(x);
    launch(x.device(),
           kernel::Binary{kernel::BinaryFormula::multiply, x.in(), x.in(), y.out(), Write::set});
    saved = {x};
    return y;
  }
  void backward(const Saved& saved, const Tensor& dy, Edge dx) const {
    Tensor twice = empty_like(dy);
    launch(dy.device(), kernel::Scale{dy.in(), {}, factor, twice.out(), Write::set});
    const Deposit d = dx.place();
    launch(dy.device(), kernel::Binary{kernel::BinaryFormula::multiply, twice.in(), saved[0].in(),
                                       d.into, forgets_write ? Write::set : d.write});
  }
};

OperationCase wrong_case(double factor, bool forgets_write) {
  return {"wrong", {{{3, 5}}}, [=](std::span<const Var> in, Where) {
            const WrongSquare op{factor, forgets_write};
            return record("wrong", op, in[0]) + record("wrong", op, in[0]);
          }};
}

}  // namespace

TEST_CASE("every declared operation has a row in the table") {
  CHECK(declared().size() >= 23);
  for (const std::string& name : missing(table())) FAIL_CHECK(name << " has no row");
}

TEST_CASE("an operation without a row is named, also where another has its name") {
  std::vector<OperationRow> rows = table();
  std::erase_if(rows, [](const OperationRow& row) {
    return row.declaration == "gelu(x)" ||
           row.declaration == "cross_entropy(logits, targets, ignore)";
  });
  CHECK(missing(rows) ==
        std::vector<std::string>{"gelu(x)", "cross_entropy(logits, targets, ignore)"});
}

TEST_CASE("every gradient equals central differences in f64") {
  for_each_case([](const OperationCase& one) {
    for (uint64_t seed : {100, 200})
      CHECK(gradient_check(one, inputs_of(one, DType::f64, seed)) <= 1);
  });
}

TEST_CASE("a wrong backward rule is caught") {
  const auto check = [](double factor, bool forgets_write) {
    const OperationCase one = wrong_case(factor, forgets_write);
    return gradient_check(one, inputs_of(one, DType::f64, 100));
  };
  CHECK(check(2, false) <= 1);
  CHECK(check(2.0001, false) > 1);
  CHECK(check(-2, false) > 1);
  CHECK(check(2, true) > 1);
}

TEST_CASE("gradients are added where something lies already") {
  for_each_case([](const OperationCase& one) {
    const Many inputs = inputs_of(one, DType::f64, 100), base = inputs_of(one, DType::f64, 300);
    Many expected = run_case(one, inputs, exact(), all_of(one)).gradients;
    for (size_t i = 0; i < base.size(); ++i)
      for (size_t e = 0; e < base[i].size(); ++e) expected[i][e] += base[i][e];
    const Many added = run_case(one, inputs, exact(), all_of(one), base).gradients;
    CHECK(relative_error(added, expected) <= allowed(one, DType::f64));
  });
}

TEST_CASE("an input that needs no gradient changes nothing for the others") {
  for_each_case([](const OperationCase& one) {
    const Many inputs = inputs_of(one, DType::f64, 100);
    const OperationResult all = run_case(one, inputs, exact(), all_of(one));
    for (size_t i = 0; i < inputs.size(); ++i) {
      std::vector<bool> needed(inputs.size(), false);
      needed[i] = true;
      CHECK(run_case(one, inputs, exact(), needed).gradients[i] == all.gradients[i]);
    }
  });
}

TEST_CASE("cpu and reference in f32, bf16 and f16 equal reference in f64, forward and backward") {
  for_each_case([](const OperationCase& one) {
    for (Device device : {Device::cpu(), Device::reference()})
      for (DType type : {DType::f32, DType::bf16, DType::f16}) {
        CAPTURE(text_of({device, type}));
        const Many inputs = inputs_of(one, type, 100);
        const OperationResult expected = run_case(one, inputs, exact(), all_of(one));
        const OperationResult actual = run_case(one, inputs, {device, type}, all_of(one));
        CHECK(relative_error(actual.value, expected.value) <= allowed(one, type));
        CHECK(relative_error(actual.gradients, expected.gradients) <= allowed(one, type));
      }
  });
}

TEST_CASE("outside of a scope an operation only runs") {
  for_each_case([](const OperationCase& one) {
    const Many inputs = inputs_of(one, DType::f64, 100);
    std::vector<Var> in;
    for (size_t i = 0; i < inputs.size(); ++i)
      in.emplace_back(tensor_of(one.inputs[i].shape, inputs[i], exact()));
    CHECK(one.run(in, exact()).node() == nullptr);
  });
}

}  // namespace accrue::test
