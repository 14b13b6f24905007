// The reference backend itself: numbers that can be checked on paper, and in f64 every x_backward
// against central differences of its x.
#include <doctest/doctest.h>

#include <cmath>

#include "kernels/stage.h"

namespace accrue::test {
namespace {

constexpr DType f64 = DType::f64;
const Device device = Device::reference();

Tensor numbers(const Shape& shape, const std::vector<double>& values) {
  return Tensor::of<double>(shape, values, device);
}
Tensor none(const Shape& shape) { return Tensor(shape, f64, device); }

/// `dx` is the gradient of `loss` by x. Central differences with h = 1e-5 are off by h²·|f‴|/6 and
/// by the rounding 1e-16·|f|/h, together about 1e-10 for values of order 1; 1e-7 leaves room.
void check_gradient(const std::function<double()>& loss, Tensor x, const Tensor& dx) {
  constexpr double h = 1e-5;
  double* place = x.data<double>();
  const std::vector<double> gradient = dx.to_vector();
  for (int64_t e = 0; e < x.elements(); ++e) {
    const double before = place[e];
    place[e] = before + h;
    const double above = loss();
    place[e] = before - h;
    const double below = loss();
    place[e] = before;
    const double difference = (above - below) / (2 * h);
    CHECK(std::abs(gradient[e] - difference) <= 1e-7 * (1 + std::abs(difference)));
  }
}

/// Σ y·dy: its gradient by x is what x_backward gives for this dy.
double dot(const Tensor& y, const Tensor& dy) {
  const std::vector<double> a = y.to_vector(), b = dy.to_vector();
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

TEST_CASE("a product is what paper says") {
  const Tensor a = numbers({2, 3}, {1, 2, 3, 4, 5, 6}), b = numbers({3, 2}, {1, 0, 2, 1, 0, 3});
  const Tensor bias = numbers({2}, {10, 20});
  Tensor c = none({2, 2});
  launch(device, kernel::Matmul{a.in(), b.in(), c.out(), Write::set, bias.in()});
  CHECK(c.to_vector() == std::vector<double>{15, 31, 24, 43});
  launch(device, kernel::Matmul{a.in(), b.in(), c.out(), Write::add});
  CHECK(c.to_vector() == std::vector<double>{20, 42, 38, 66});
}

TEST_CASE("a sum in bf16 is rounded once") {
  // 1 + 2⁻⁹ + 2⁻⁹ = 1 + 2⁻⁸: a tie that goes to 1. Adding a third 2⁻⁹ passes it.
  std::vector<double> terms{1, 0x1p-9, 0x1p-9, 0x1p-9};
  Tensor sum(Shape{1}, DType::bf16, device);
  launch(device, kernel::SumTo{numbers({4}, terms).in(), sum.out(), Write::set});
  CHECK(sum.item() == 1 + 0x1p-7);
}

TEST_CASE("optimizer steps are what paper says") {
  const Tensor sum = numbers({1}, {4});
  Tensor w = numbers({1}, {1}), u = numbers({1}, {2});
  const kernel::SgdItem item{sum.in(), w.out(), u.out(), {}};
  // g = 4·0.5 + 0.1·1 = 2.1; u = 0.5·2 + 2.1 = 3.1; w = 1 − 0.1·(2.1 + 0.5·3.1)
  launch(device, kernel::Sgd{{&item, 1}, 0.5, 0.1, 0.5, 0.1, true});
  CHECK(u.item() == doctest::Approx(3.1).epsilon(1e-15));
  CHECK(w.item() == doctest::Approx(0.635).epsilon(1e-15));

  // The first AdamW step moves by lr·sign(g), after the decay.
  Tensor v = numbers({1}, {1}), mean = numbers({1}, {0}), variance = numbers({1}, {0});
  const kernel::AdamItem adam{sum.in(), v.out(), mean.out(), variance.out(), {}};
  launch(device, kernel::Adam{{&adam, 1}, 0.5, 0.1, 0.9, 0.1, 0.99, 0.01, 0, 0.2, 0.1, 0.01, true});
  CHECK(v.item() == doctest::Approx(1 - 0.1 * 0.2 - 0.1).epsilon(1e-14));
}

TEST_CASE("unary_backward is the gradient of unary") {
  Stage stage(device, 1);
  for (auto formula : {kernel::UnaryFormula::gelu, kernel::UnaryFormula::silu,
                       kernel::UnaryFormula::relu, kernel::UnaryFormula::tanh}) {
    const Tensor x = stage.random({17}, f64, 3), dy = stage.random({17}, f64);
    Tensor y = none({17}), dx = none({17});
    launch(device, kernel::UnaryBackward{formula, x.in(), dy.in(), {dx.out(), Write::set}});
    const auto loss = [&] {
      launch(device, kernel::Unary{formula, x.in(), y.out()});
      return dot(y, dy);
    };
    check_gradient(loss, x, dx);
  }
}

TEST_CASE("norm_backward is the gradient of norm") {
  Stage stage(device, 2);
  for (bool centered : {true, false}) {
    const Tensor x = stage.random({3, 7}, f64), dy = stage.random({3, 7}, f64);
    const Tensor gamma = stage.random({7}, f64), beta = stage.random({7}, f64);
    Tensor y = none({3, 7}), statistics = none({3, 2});
    const auto loss = [&] {
      launch(device, kernel::Norm{x.in(), gamma.in(), beta.in(), y.out(), statistics.out(), 1e-2,
                                  centered});
      return dot(y, dy);
    };
    loss();
    Tensor dx = none({3, 7}), dgamma = none({7}), dbeta = none({7});
    launch(device,
           kernel::NormBackward{x.in(), gamma.in(), statistics.in(), dy.in(),
                                Deposit(dx.out(), Write::set), Deposit(dgamma.out(), Write::set),
                                Deposit(dbeta.out(), Write::set), centered});
    check_gradient(loss, x, dx);
    check_gradient(loss, gamma, dgamma);
    check_gradient(loss, beta, dbeta);
  }
}

TEST_CASE("attention_backward is the gradient of attention") {
  Stage stage(device, 3);
  for (double p : {0.0, 0.3}) {
    const Shape shape{2, 5, 2, 3};
    const Tensor q = stage.random(shape, f64), k = stage.random(shape, f64);
    const Tensor v = stage.random(shape, f64), dy = stage.random(shape, f64);
    const Tensor samples = stage.samples(2);
    Tensor y = none(shape), logsum = none({2, 2, 5});
    const auto loss = [&] {
      launch(device, kernel::Attention{q.in(), k.in(), v.in(), y.out(), logsum.out(), p,
                                       samples.in(), RandomKey{9, 4}});
      return dot(y, dy);
    };
    loss();
    Tensor dq = none(shape), dk = none(shape), dv = none(shape);
    launch(device, kernel::AttentionBackward{q.in(), k.in(), v.in(), y.in(), logsum.in(), dy.in(),
                                             dq.out(), dk.out(), dv.out(), Write::set, p,
                                             samples.in(), RandomKey{9, 4}});
    check_gradient(loss, q, dq);
    check_gradient(loss, k, dk);
    check_gradient(loss, v, dv);
  }
}

TEST_CASE("attention without dropout mixes by an explicit softmax") {
  // Two positions, one channel: y₀ = v₀; y₁ = v₀ + σ(q₁·(k₁ − k₀))·(v₁ − v₀).
  const Tensor q = numbers({1, 2, 1, 1}, {1, 2}), k = numbers({1, 2, 1, 1}, {0.5, 1});
  const Tensor v = numbers({1, 2, 1, 1}, {3, 7});
  Tensor y = none({1, 2, 1, 1}), logsum = none({1, 1, 2});
  launch(device, kernel::Attention{q.in(), k.in(), v.in(), y.out(), logsum.out()});
  CHECK(y.to_vector()[0] == 3);
  CHECK(y.to_vector()[1] == doctest::Approx(3 + 4 / (1 + std::exp(-1.0))).epsilon(1e-14));
  CHECK(logsum.to_vector()[1] == doctest::Approx(std::log(std::exp(1) + std::exp(2))));
}

TEST_CASE("turning back is the gradient of turning, and undoes it") {
  Stage stage(device, 4);
  const Shape shape{2, 5, 3, 2, 4};
  const Tensor x = stage.random(shape, f64), dy = stage.random(shape, f64);
  Tensor y = none(shape), dx = none(shape), back = none(shape);
  launch(device, kernel::Rope{dy.in(), dx.out(), Write::set, 100, true});
  const auto loss = [&] {
    launch(device, kernel::Rope{x.in(), y.out(), Write::set, 100, false});
    return dot(y, dy);
  };
  check_gradient(loss, x, dx);
  loss();  // y of x as it is
  launch(device, kernel::Rope{y.in(), back.out(), Write::set, 100, true});
  const auto before = x.to_vector(), after = back.to_vector();
  for (size_t i = 0; i < before.size(); ++i)
    CHECK(after[i] == doctest::Approx(before[i]).epsilon(1e-14));
}

TEST_CASE("embedding_backward is the gradient of embedding, repeated ids included") {
  Stage stage(device, 5);
  const Tensor table = stage.random({4, 3}, f64), dy = stage.random({9, 3}, f64);
  const Tensor ids = stage.ids({9}, 4);
  Tensor y = none({9, 3}), dtable = none({4, 3});
  launch(device, kernel::EmbeddingBackward{ids.in(), dy.in(), {dtable.out(), Write::set}});
  const auto loss = [&] {
    launch(device, kernel::Embedding{table.in(), ids.in(), y.out()});
    return dot(y, dy);
  };
  check_gradient(loss, table, dtable);
}

TEST_CASE("in bf16 a deposit of many rows of one id is rounded once, not once for each row") {
  constexpr int64_t columns = 37;  // whole registers and a part of one
  for (const Device where : {device, Device::cpu()}) {
    std::vector<int32_t> turns;
    for (int i = 0; i < 300; ++i) turns.insert(turns.end(), {2, 1});
    const Tensor ids = Tensor::of<int32_t>({600}, turns, where);
    Tensor dy({600, columns}, DType::f32, where), table({4, columns}, DType::bf16, where);
    launch(where, kernel::Fill{dy.out(), 1});
    for (const Write write : {Write::set, Write::add})
      launch(where, kernel::EmbeddingBackward{ids.in(), dy.in(), {table.out(), write}});
    // One by one, ones stop adding at 256.
    std::vector<double> expected(4 * columns);
    std::fill_n(expected.begin() + columns, 2 * columns, 600);
    CHECK(table.to_vector() == expected);
  }
}

TEST_CASE("the losses' backwards are their gradients") {
  Stage stage(device, 6);
  const Tensor x = stage.random({5, 7}, f64, 2), other = stage.random({5, 7}, f64);
  const Tensor targets = stage.ids({5}, 7, -1), factor = numbers({1}, {0.3});
  Tensor sum = none({1}), logsum = none({5}), dx = none({5, 7});

  const auto cross_entropy = [&] {
    launch(device,
           kernel::CrossEntropy{x.in(), targets.in(), sum.out(), logsum.out(), Write::set, -1});
    return 0.3 * sum.item();
  };
  cross_entropy();
  launch(device, kernel::CrossEntropyBackward{
                     x.in(), targets.in(), logsum.in(), factor.in(), {dx.out(), Write::set}, -1});
  check_gradient(cross_entropy, x, dx);

  const auto squared_error = [&] {
    launch(device, kernel::SquaredError{x.in(), other.in(), sum.out()});
    return 0.3 * sum.item();
  };
  launch(device,
         kernel::SquaredErrorBackward{x.in(), other.in(), factor.in(), {dx.out(), Write::set}});
  check_gradient(squared_error, x, dx);
}

TEST_CASE("dropout keeps a sample's mask wherever the sample lies in a batch") {
  Stage stage(device, 7);
  const Tensor x = stage.random({2, 300}, f64);
  const RandomKey key{11, 2};
  const auto drop = [&](const Tensor& rows, std::vector<int64_t> indices) {
    const Tensor samples = Tensor::of<int64_t>({rows.shape()[0]}, indices, device);
    Tensor y = none(rows.shape());
    launch(device, kernel::Dropout{rows.in(), samples.in(), y.out(), Write::set, 0.25, key});
    return y;
  };
  const Tensor together = drop(x, {70, 71});
  CHECK(together.slice(1, 1).to_vector() == drop(x.slice(1, 1), {71}).to_vector());
  CHECK(together.slice(1, 1).to_vector() != drop(x.slice(1, 1), {70}).to_vector());

  int kept = 0;
  const auto before = x.to_vector(), after = together.to_vector();
  for (size_t i = 0; i < before.size(); ++i) {
    if (after[i] == 0) continue;
    ++kept;
    CHECK(after[i] == doctest::Approx(before[i] / 0.75).epsilon(1e-15));
  }
  // 600 draws kept with probability ¾: the mean is 450, the deviation 10.6; six of them.
  CHECK(std::abs(kept - 450) < 64);
}

}  // namespace accrue::test
