// What is never stored whole: attention's T×T matrix, the logits of a large vocabulary. By dry
// runs, which take no memory themselves; what stores them composed is seen by the same look.
#include "laws/tiers.h"

namespace accrue::test {
namespace {

const Where wheres[]{{Device::cpu(), DType::f32},
                     {Device::cpu(), DType::bf16},
                     {Device::cpu(), DType::f16},
                     exact()};

// A leaf and the place of its gradient.
struct Leaf {
  Tensor data, gradient;
  Leaf(const Shape& shape, Where where)
      : data(shape, where.dtype, where.device), gradient(empty_like(data)) {}
  Var var() { return {data, Deposit(gradient.out(), Write::set)}; }
};

// The most bytes at one moment of forward and backward, of activations and workspace alike.
template <class F>
int64_t peak(const F& forward, Graph graph = Graph::release) {
  host_allocator().reset_peak(/*dry=*/true);
  const int64_t before = host_allocator().use(true).total;
  const Var y = forward();
  backward(y, empty_like(y.value()), graph);
  return host_allocator().use(true).peak_total - before;
}

// Of one head: with few channels the T×T matrix would be nearly all of it.
constexpr int64_t width = 16;

int64_t attention_peak(int64_t time, Where where, double p) {
  const ModeScope dry(Mode::dry);
  const Recording scope({0});
  const RandomSite site{"attention", Seed{1}};
  Leaf qkv({1, time, 3 * width}, where);
  return peak([&] { return causal_attention(qkv.var(), 1, p, site); });
}

// Scores, a function of each, and their product with the values: tanh stands for softmax, which is
// no operation of its own.
int64_t composed_peak(int64_t time, Where where) {
  const ModeScope dry(Mode::dry);
  const Recording scope({0});
  Leaf q({time, width}, where), k({time, width}, where), v({time, width}, where);
  return peak([&] { return matmul(tanh(matmul_transposed(q.var(), k.var())), v.var()); });
}

constexpr int64_t rows = 1024, vocabulary = 8192;

int64_t loss_peak(int64_t chunk, Where where, Graph graph = Graph::release) {
  const ModeScope dry(Mode::dry);
  const Recording scope({0});
  Leaf hidden({rows, width}, where), head({vocabulary, width}, where);
  const Tensor targets({rows}, DType::i32, where.device);
  return peak([&] { return cross_entropy(hidden.var(), head.var(), targets, -100, chunk).sum(); },
              graph);
}

double growth(int64_t twice, int64_t once) {
  return static_cast<double>(twice) / static_cast<double>(once);
}

}  // namespace

TEST_CASE("attention never stores the T×T matrix: twice the time takes twice the memory") {
  const Threads two(2);  // each has a workspace of its own
  for (Where where : wheres) {
    CAPTURE(text_of(where));
    for (int64_t time : {1024, 2048}) {
      CAPTURE(time);
      for (double p : {0.0, 0.1})
        CHECK(growth(attention_peak(2 * time, where, p), attention_peak(time, where, p)) < 2.2);
      // Composed, four times; the rest of it, 48 channels of T, takes a little off.
      CHECK(growth(composed_peak(2 * time, where), composed_peak(time, where)) > 3.5);
      const auto matrix = static_cast<int64_t>(time * time * size_of(where.dtype));
      CHECK(composed_peak(time, where) > 2 * matrix);
      CHECK(attention_peak(time, where, 0.1) < matrix);
    }
  }
}

TEST_CASE("logits never exist whole: chunks of rows take less than all logits, one chunk more") {
  const Threads two(2);
  for (Where where : wheres) {
    CAPTURE(text_of(where));
    const auto logits = static_cast<int64_t>(rows * vocabulary * size_of(where.dtype));
    CHECK(loss_peak(64, where) < logits / 4);
    CHECK(loss_peak(256, where) < logits);
    CHECK(loss_peak(rows, where) > logits);
    // Their gradient lies where they lay; a graph that is kept needs them again. Where a CPU has no
    // products of 16 bits, the workspace holds their factors in f32.
    if (size_of(where.dtype) > 2) CHECK(loss_peak(rows, where) < 3 * logits / 2);
    CHECK(loss_peak(rows, where, Graph::keep) > 2 * logits);
  }
}

}  // namespace accrue::test
