// The noise scale: the known answer recovered from synthetic gradients, and only from right ones.
#include "accrue/optim/noise_scale.h"

#include "saved.h"

namespace accrue::test {
namespace {

// Gradients of samples are G + ε, G of `dimensions` equal components, ε Gaussian with covariance
// (S/dimensions)·1.
constexpr int dimensions = 64;
constexpr double squared_gradient = 1, variance = 16;

struct Sizes {
  int small, large;
};

double squared_norm(const Numbers& sum, double by) { return std::pow(norm(sum) / by, 2); }

// Standard deviation of |G_B|²: its variance is 2·S²/(d·B²) + 4·S·|G|²/(d·B).
double deviation(double batch) {
  return std::sqrt(2 * variance * variance / (dimensions * batch * batch) +
                   4 * variance * squared_gradient / (dimensions * batch));
}
// Of one estimate; G₁ is part of G₂, so deviations add, whatever their correlation.
double deviation_of_gradient(Sizes b) {
  return (b.large * deviation(b.large) + b.small * deviation(b.small)) / (b.large - b.small);
}
double deviation_of_variance(Sizes b) {
  return (deviation(b.large) + deviation(b.small)) / (1.0 / b.small - 1.0 / b.large);
}

constexpr int updates = 4000;
constexpr double decay = 0.999;

// What the average leaves of an estimate's deviation: its weights are (1 − d)·dⁱ/(1 − dⁿ).
double averaging() {
  const double rest = std::pow(decay, updates);
  return std::sqrt((1 - decay) / (1 + decay) * (1 + rest) / (1 - rest));
}

enum class Mistake { none, undivided, configured };

NoiseScale measured(const std::vector<Sizes>& sizes, Mistake mistake) {
  std::mt19937_64 bits(7);
  std::normal_distribution<double> noise(0, std::sqrt(variance / dimensions));
  NoiseScale scale(decay);
  for (int i = 0; i < updates; ++i) {
    const Sizes b = sizes[static_cast<size_t>(i) % sizes.size()];
    Numbers sum(dimensions);
    double small = 0;
    for (int sample = 1; sample <= b.large; ++sample) {
      for (double& one : sum) one += std::sqrt(squared_gradient / dimensions) + noise(bits);
      if (sample == b.small) small = squared_norm(sum, mistake == Mistake::undivided ? 1 : b.small);
    }
    const double large = squared_norm(sum, mistake == Mistake::undivided ? 1 : b.large);
    const Sizes said = mistake == Mistake::configured ? sizes[0] : b;
    scale.update(small, said.small, large, said.large);
  }
  return scale;
}

// Distances from the truth, in the worst pair's deviations.
struct Off {
  double gradient, variance;
};
Off off(const NoiseScale& scale, const std::vector<Sizes>& sizes) {
  double of_gradient = 0, of_variance = 0;
  for (Sizes b : sizes) {
    of_gradient = std::max(of_gradient, deviation_of_gradient(b) * averaging());
    of_variance = std::max(of_variance, deviation_of_variance(b) * averaging());
  }
  return {std::abs(scale.squared_gradient() - squared_gradient) / of_gradient,
          std::abs(scale.variance() - variance) / of_variance};
}

const std::vector<Sizes> equal{{4, 16}}, ragged{{4, 16}, {3, 13}, {1, 8}, {4, 6}};

}  // namespace

TEST_CASE("Gaussian gradients of known mean and noise are recovered, ragged cycles included") {
  for (const auto& sizes : {equal, ragged}) {
    const NoiseScale scale = measured(sizes, Mistake::none);
    const Off distance = off(scale, sizes);
    // Five deviations: by chance less often than once in a million seeds.
    CHECK(distance.gradient <= 5);
    CHECK(distance.variance <= 5);
    REQUIRE(scale.value().has_value());
    CHECK(*scale.value() == doctest::Approx(scale.variance() / scale.squared_gradient()));
  }
}

TEST_CASE("sums that are not divided by their counts, or by configured ones, miss the truth") {
  const Off undivided = off(measured(equal, Mistake::undivided), equal);
  CHECK(std::max(undivided.gradient, undivided.variance) > 5);
  const Off configured = off(measured(ragged, Mistake::configured), ragged);
  CHECK(std::max(configured.gradient, configured.variance) > 5);
}

TEST_CASE("exact expectations give the exact answer from the first update on") {
  NoiseScale scale;
  CHECK(!scale.value());
  CHECK(scale.variance() == 0);
  for (int i = 0; i < 3; ++i) {
    scale.update(2 + 12.0 / 3, 3, 2 + 12.0 / 8, 8);  // |G|² = 2, S = 12
    CHECK(scale.squared_gradient() == doctest::Approx(2).epsilon(100 * u_f64));
    CHECK(scale.variance() == doctest::Approx(12).epsilon(100 * u_f64));
    CHECK(*scale.value() == doctest::Approx(6).epsilon(100 * u_f64));
  }
}

TEST_CASE("a cycle tells the mean gradients' norms of its first micro-batch and of its whole") {
  Linear net{4, 3, normal(0.5)};
  initialize(net, {exact().device, exact().dtype}, Seed{1});
  Rows rows = random_rows(6, 4, 3, exact(), 1);
  Sgd still(parameters(net), {.lr = 0});
  const auto loss = [&](const Rows& r) { return mean_squared_error(net(r.x), r.y); };
  struct Mean {
    double squared, count;
  };
  const auto mean = [&](const Rows& part) {
    Cycle plain(parameters(net));
    const ClosedCycle closed = plain.run(part, {.samples = 6}, loss);
    double squares = 0;
    for (const Numbers& sum : sums_of(closed)) squares += squared_norm(sum, closed.count());
    return Mean{squares, closed.count()};
  };
  for (const char* accumulator : {"f32", "kahan"}) {
    Cycle cycle(parameters(net),
                {.accumulate = accumulators::parse(accumulator), .noise_scale = true});
    for (int64_t micro : {1, 2, 4, 5}) {  // 4 and 5: a ragged last one
      const Mean first = mean(rows.slice(0, micro)), whole = mean(rows);
      NoiseScale expected, scale;
      expected.update(first.squared, first.count, whole.squared, whole.count);
      ClosedCycle closed = cycle.run(rows, {.samples = micro}, loss);
      const auto prefix = closed.prefix();
      scale.update(prefix, still.step(std::move(closed)));
      // Sums of at most 6·3 products, and differences of squares that lose some ten times.
      CHECK(scale.variance() == doctest::Approx(expected.variance()).epsilon(1000 * u_f64));
      CHECK(scale.squared_gradient() ==
            doctest::Approx(expected.squared_gradient()).epsilon(1000 * u_f64));
    }
    NoiseScale scale;
    const std::string before = state_bits(scale);
    ClosedCycle single = cycle.run(rows, {.samples = 6}, loss);  // nothing to compare with
    auto prefix = single.prefix();
    scale.update(prefix, still.step(std::move(single)));
    CHECK(state_bits(scale) == before);
    Rows bad = rows;
    Numbers targets = rows.y.to_vector();
    targets.back() = INFINITY;  // in the last micro-batch
    bad.y = tensor_of({6, 3}, targets, exact());
    ClosedCycle skipped = cycle.run(bad, {.samples = 2}, loss);
    prefix = skipped.prefix();
    REQUIRE(prefix.has_value());
    scale.update(prefix, still.step(std::move(skipped)));
    CHECK(state_bits(scale) == before);
  }
}

TEST_CASE("averages that are not positive are no noise scale") {
  NoiseScale scale(0);
  scale.update(1, 1, 2, 2);  // S < 0
  CHECK(scale.variance() < 0);
  CHECK(!scale.value());
  scale.update(9, 1, 1, 2);  // |G|² < 0
  CHECK(scale.squared_gradient() < 0);
  CHECK(!scale.value());
}

TEST_CASE("the state goes through a checkpoint to the bit") {
  NoiseScale whole, resumed;
  whole.update(5, 1, 2, 4);
  Saved(whole).into(resumed);
  for (NoiseScale* one : {&whole, &resumed}) one->update(4, 1, 3, 4);
  CHECK(whole.value() == resumed.value());
  CHECK(whole.variance() == resumed.variance());
  CHECK(state_bits(whole) == state_bits(resumed));
}

TEST_CASE("what cannot be measured is refused and changes nothing") {
  NoiseScale scale;
  scale.update(5, 1, 2, 4);
  const std::string before = state_bits(scale);
  CHECK(contains(message_of<BadArgument>([&] { scale.update(5, 4, 2, 4); }), "one micro-batch"));
  CHECK_THROWS_AS(scale.update(5, 0, 2, 4), BadArgument);
  CHECK_THROWS_AS(scale.update(5, 1, 2, INFINITY), BadArgument);
  CHECK(contains(message_of<BadArgument>([&] { scale.update(NAN, 1, 2, 4); }), "skipped"));
  CHECK_THROWS_AS(scale.update(5, 1, INFINITY, 4), BadArgument);
  CHECK(state_bits(scale) == before);
  CHECK_THROWS_AS(NoiseScale(1), BadArgument);
}

}  // namespace accrue::test
