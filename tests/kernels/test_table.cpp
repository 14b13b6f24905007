// The cpu backend equals the reference backend, kernel by kernel.
//
// How to add a test. For a new kernel `kernel::Foo`:
//   1. write `Cases foo_cases()` in the cases_*.cpp of its theme: a case takes numbers from the
//   Stage
//      (`stage.random`), asks it for places (`stage.out`, with how far a right kernel may be off
//      and why) and launches the kernel there (`stage.launch`). Give it odd sizes, both `Write`s,
//      every dtype, each optional argument present and absent;
//   2. add one row to table.cpp.
// Everything else follows: each case runs on both devices with the same numbers, twice on the
// tested one, and whatever `stage.out` handed out is compared, with the rows before and behind it.
#include <doctest/doctest.h>

#include <cstdlib>
#include <vector>

#include "kernels/cases.h"

namespace accrue::test {
namespace {

/// The names of all kernels that have no case.
template <class... Args>
std::vector<std::string> missing(const std::vector<Row>& rows, const std::tuple<Kernel<Args>...>&) {
  std::vector<std::string> names;
  const auto look_for = [&](std::type_index kernel) {
    for (const Row& row : rows)
      if (row.kernel == kernel && !row.cases.empty()) return;
    names.push_back(name_of(kernel));
  };
  (look_for(typeid(Args)), ...);
  return names;
}

/// A memory checker runs (core/allocator.h), and everything takes many times as long.
bool is_checked() { return std::getenv("ACCRUE_NO_CACHE") != nullptr; }

/// 5: more than some cases have rows, and it divides none of the sizes evenly. It is more than
/// many machines have cores, and threads that wait for each other take long: in every third case.
std::vector<int> thread_counts(size_t of_case) {
  if (is_checked()) return {2};
  return of_case % 3 == 0 ? std::vector{1, 2, 5} : std::vector{1, 2};
}

/// The cases of the row that fail on this device.
int failures(const Row& row, Device device) {
  int count = 0;
  for (const Case& test_case : row.cases) count += !mismatch(row, test_case, device, {1}).empty();
  return count;
}

/// The reference with one kernel replaced by a wrong one.
template <class Args>
Backend broken(void (*run)(const Args&, void*)) {
  Backend backend = *Device::reference().backend;
  std::get<Kernel<Args>>(backend.kernels) = {nullptr, run};
  return backend;
}

/// Adds the smallest thing that must be seen to the place of an element.
void nudge(const Tensor& tensor, int64_t element, double by) {
  Tensor flat = tensor.reshape({-1}).slice(element, 1);
  const Tensor step = Tensor::of<double>({1}, std::vector<double>{by}, Device::reference());
  launch(Device::reference(), kernel::Copy{step.in(), flat.out(), Write::add});
}

}  // namespace

TEST_CASE("every kernel has a row in the table") {
  for (const std::string& name : missing(table(), Kernels{})) FAIL_CHECK(name << " has no row");
}

TEST_CASE("a kernel without a row is named") {
  std::vector<Row> rows = table();
  rows.erase(rows.begin());
  CHECK(missing(rows, Kernels{}) == std::vector<std::string>{"accrue::kernel::Matmul"});
}

TEST_CASE("cpu equals reference in every case of every kernel, with any number of threads") {
  const size_t step = is_checked() ? 3 : 1;
  for (const Row& row : table())
    for (size_t i = 0; i < row.cases.size(); i += step) {
      const Case& test_case = row.cases[i];
      const std::string found = mismatch(row, test_case, Device::cpu(), thread_counts(i));
      CHECK_MESSAGE(found.empty(), row.name << ": " << test_case.name << ": " << found);
    }
}

TEST_CASE("a difference beyond the tolerance is caught in every case, one within it is not") {
  for (const Row& row : table()) {
    const Case& test_case = row.cases[row.cases.size() / 2];
    Stage expected(Device::reference(), 1);
    test_case.run(expected);
    for (size_t i = 0; i < expected.outputs().size(); ++i) {
      const Stage::Output& output = expected.outputs()[i];
      const auto numbers = numbers_of(output.base);
      const auto middle = static_cast<int64_t>(numbers.size() / 2);
      const double allowed = tolerances(output, numbers)[middle];
      // Rounding to the output's dtype may move the nudge by half a unit of it.
      for (const auto& [by, caught] : {std::pair{0.4, false}, std::pair{2.0, true}}) {
        Stage actual(Device::reference(), 1);
        test_case.run(actual);
        nudge(actual.outputs()[i].base, middle, allowed > 0 ? by * allowed : (caught ? 1 : 0));
        INFO(row.name << ": " << test_case.name << ": output " << i << " moved by " << by);
        CHECK(difference(expected, actual).empty() == !caught);
        CHECK((error_in_bounds(expected, actual) > 1) == caught);
      }
    }
  }
}

TEST_CASE("wrong kernels are caught") {
  const Device reference = Device::reference();
  SUBCASE("one that sets where it should add") {
    const Backend backend = broken<kernel::Copy>([](const kernel::Copy& args, void*) {
      kernel::Copy other = args;
      other.write = Write::set;
      launch(Device::reference(), other);
    });
    const Row row = test::row<kernel::Copy>(copy_cases());
    CHECK(failures(row, reference) == 0);
    CHECK(failures(row, {&backend}) > 50);
  }
  SUBCASE("one that writes behind its place") {
    const Backend backend = broken<kernel::Fill>([](const kernel::Fill& args, void*) {
      kernel::Fill longer = args;
      longer.to.shape[0] += 1;
      launch(Device::reference(), longer);
    });
    const Row row = test::row<kernel::Fill>(fill_cases());
    CHECK(failures(row, {&backend}) == static_cast<int>(row.cases.size()));
  }
  SUBCASE("one that leaves out the last term of a long sum") {
    const Backend backend = broken<kernel::SumTo>([](const kernel::SumTo& args, void*) {
      kernel::SumTo shorter = args;
      if (args.from.shape[0] == 257) shorter.from.shape[0] = 256;
      launch(Device::reference(), shorter);
    });
    const Row row = test::row<kernel::SumTo>(sum_to_cases());
    CHECK(failures(row, {&backend}) >= 8);
  }
}

}  // namespace accrue::test
