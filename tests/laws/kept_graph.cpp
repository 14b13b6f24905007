// Law 3: backward twice over one kept graph doubles leaves only. What lies inside dies in each
// pass; an operation that keeps its own hands more to the leaves the second time.
#include <memory>

#include "support.h"

namespace accrue::test {
namespace {

struct Net {
  Parameter w{Shape{4, 4}, normal(0.5)};
  Net() { initialize(*this, {exact().device, exact().dtype}, Seed{1}); }
  void visit(Visitor& part) { part("w", w); }
};

// y = x. With `keep`, what backward is handed joins what it was handed before, as where the inner
// values of a graph have gradients that accumulate.
struct Inner {
  bool keep = false;
  std::shared_ptr<Numbers> kept = std::make_shared<Numbers>();
  Tensor forward(Saved&, const Tensor& x) const { return x; }
  void backward(const Saved&, const Tensor& dy, Edge dx) const {
    Numbers now = dy.to_vector();
    kept->resize(now.size());
    if (keep)
      for (size_t i = 0; i < now.size(); ++i) now[i] += (*kept)[i];
    *kept = now;
    dx.pass(tensor_of(dy.shape(), now, exact()));
  }
};

// What so many passes over one graph leave in a place of the caller's and in a parameter's buffer.
Many gradients(int passes, bool keep) {
  const Net net;
  const auto buffer = std::make_shared<GradBuffer>(net.w.state(), accumulators::f32());
  Tape tape(Tape::Run::at_once, {}, {}, [&](const ParameterState&) { return buffer; });
  const TapeScope scope(&tape);
  const Tensor x = random_tensor({3, 4}, exact(), 1);
  Tensor dx = empty_like(x);
  const Var leaf(x, Deposit(dx.out(), Write::set));
  const Var inner = record("inner", Inner{keep}, gelu(matmul(leaf, net.w)));
  const Var y = sum(matmul(inner * inner, net.w) + leaf);  // inner nodes have several deposits each
  for (int i = 0; i < passes; ++i) tape.backward(y, tensor_of({1}, {1}, exact()), Graph::keep);
  return {dx.to_vector(), numbers_of(buffer->sum())};
}

// The same of a loss whose backward writes over the logits where it may.
Many loss_gradients(int passes) {
  const Tensor x = random_tensor({6, 4}, exact(), 1), w = random_tensor({5, 4}, exact(), 2);
  const std::vector<int32_t> ids{0, 1, 2, 3, 4, 0};
  const Tensor targets = Tensor::of<int32_t>({6}, ids, exact().device);
  Tensor dx = empty_like(x), dw = empty_like(w);
  const Var hidden(x, Deposit(dx.out(), Write::set)), head(w, Deposit(dw.out(), Write::set));
  Tape tape(Tape::Run::at_once);
  const TapeScope scope(&tape);
  const Var loss = cross_entropy(hidden, head, targets, -100, /*chunk=*/6).sum();
  for (int i = 1; i <= passes; ++i)
    tape.backward(loss, tensor_of({1}, {1}, exact()), i < passes ? Graph::keep : Graph::release);
  return {dx.to_vector(), dw.to_vector()};
}

Many times(Many all, double factor) {
  for (Numbers& one : all)
    for (double& number : one) number *= factor;
  return all;
}

// Each leaf has two deposits a pass, in turn: four or six in two or three passes.
constexpr double rounding = 8 * u_f64;

}  // namespace

TEST_CASE("backward twice over a kept graph doubles leaves only; three times triples them") {
  const Many once = gradients(1, false);
  for (const Numbers& one : once) CHECK(norm(one) > 0);
  CHECK(relative_error(gradients(2, false), times(once, 2)) <= rounding);
  CHECK(relative_error(gradients(3, false), times(once, 3)) <= rounding);
}

TEST_CASE("a kept graph keeps the logits: each pass over a loss gives the same gradient") {
  const Many once = loss_gradients(1);
  CHECK(relative_error(loss_gradients(2), times(once, 2)) <= rounding);
  CHECK(relative_error(loss_gradients(3), times(once, 3)) <= rounding);
}

TEST_CASE("an operation that keeps its gradient between two passes does not double them") {
  CHECK(gradients(1, true) == gradients(1, false));
  CHECK(relative_error(gradients(2, true), times(gradients(1, true), 2)) > 0.1);
}

}  // namespace accrue::test
