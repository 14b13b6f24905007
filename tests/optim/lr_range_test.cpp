// The learning-rate range test: its sweep, when it stops, and what it suggests.
#include "accrue/optim/lr_range_test.h"

#include "support.h"

namespace accrue::test {
namespace {

// Feeds losses as a function of the rate until the test is over.
LrRangeTest swept(const LrRangeConfig& config, const std::function<double(double)>& loss) {
  LrRangeTest test(config);
  const Schedule rate = test.schedule();
  for (Step step;; ++step.value)
    if (!test.update({step, false, loss(rate(step)), 1, rate(step), 1})) return test;
}

// 4, falling to 2 around 10⁻³, exploding from 10⁻¹ on.
double typical(double rate) {
  const double fall = 1 / (1 + std::exp(-4 * (std::log10(rate) + 3)));
  return 4 - 2 * fall + std::pow(rate / 0.1, 4);
}

}  // namespace

TEST_CASE("rates rise by equal factors from the first to the last") {
  const Schedule rate = LrRangeTest({.from = 1e-6, .to = 10, .steps = 8}).schedule();
  for (int64_t s = 0; s < 8; ++s)
    CHECK(rate(Step{s}) == doctest::Approx(1e-6 * std::pow(10, s)).epsilon(1e-14));
}

TEST_CASE("the steepest rate is where the loss falls fastest, the divergence where it explodes") {
  const LrRangeTest test =
      swept({.from = 1e-6, .to = 10, .steps = 701, .smoothing = 0, .stop_factor = 3}, typical);
  REQUIRE(test.steepest().has_value());
  // 100 points a decade; the difference is symmetric about the curve's turning point.
  CHECK(*test.steepest() == doctest::Approx(1e-3).epsilon(0.05));
  // Above 3·2: the exploding term is above 4, from a rate of 0.1·4^¼ on, found to one point.
  REQUIRE(test.divergence().has_value());
  CHECK(*test.divergence() >= 0.1 * std::pow(4, 0.25));
  CHECK(*test.divergence() <= 0.1 * std::pow(4, 0.25) * std::pow(10, 0.03));
  CHECK(test.points().size() < 701);
}

TEST_CASE("smoothing keeps one bad step from ending the test") {
  const auto spiked = [](double rate) {
    return std::abs(std::log10(rate) + 4) < 0.004 ? 10.0 : typical(rate);
  };
  const LrRangeConfig smooth{.steps = 701, .smoothing = 0.9};
  LrRangeConfig raw = smooth;
  raw.smoothing = 0;
  CHECK(*swept(smooth, spiked).divergence() > 0.1);
  CHECK(*swept(raw, spiked).divergence() < 1e-3);
}

TEST_CASE("smoothed losses are bias-corrected: a constant is itself from the first step on") {
  const LrRangeTest test = swept({.steps = 20, .smoothing = 0.9}, [](double) { return 4; });
  CHECK(test.points().size() == 20);
  for (const auto& point : test.points())
    CHECK(point.smoothed == doctest::Approx(4).epsilon(100 * u_f64));
  CHECK(!test.divergence());
}

TEST_CASE("the way back from a spike behind the smallest loss is not its steepest fall") {
  const auto spiked = [](double rate) {
    return typical(rate) + (rate > 0.03 && rate < 0.05 ? 1.8 : 0);
  };
  const LrRangeTest test = swept({.steps = 701, .smoothing = 0}, spiked);
  CHECK(*test.steepest() == doctest::Approx(1e-3).epsilon(0.05));
  CHECK(*test.divergence() > 0.1);  // the spike did not end it
}

TEST_CASE("a loss that never falls suggests nothing") {
  CHECK(!swept({.steps = 50}, [](double rate) { return 4 + rate; }).steepest());
}

TEST_CASE("a step that is skipped is a divergence at its rate, and the last") {
  LrRangeTest test;
  CHECK(test.update({Step{1}, false, 4, 1, 1e-6, 1}));
  CHECK(!test.update({Step{1}, true, NAN, 1, 1e-5, 1}));
  CHECK(test.divergence() == 1e-5);
  CHECK(test.points().size() == 1);
  CHECK_THROWS_AS(test.update({Step{1}, false, 4, 1, 1e-6, 1}), BadOrder);
}

TEST_CASE("on a parabola, gradient descent diverges above 2/curvature and so does the test") {
  // Loss (w·x + b)² with x = 2: its largest curvature is 2·(x² + 1) = 10; rates above 1/5 diverge.
  Linear net{1, 1, normal(1)};
  initialize(net, {exact().device, exact().dtype}, Seed{1});
  const Rows rows{tensor_of({1, 1}, {2}, exact()), tensor_of({1, 1}, {0}, exact()), {0}};
  LrRangeTest test({.from = 0.15, .to = 2, .steps = 200, .smoothing = 0});
  Sgd optimizer(parameters(net), {.lr = test.schedule()});
  Cycle cycle(parameters(net));
  while (test.update(optimizer.step(cycle.run(
      rows, {.samples = 1}, [&](const Rows& r) { return mean_squared_error(net(r.x), r.y); })))) {
  }
  REQUIRE(test.divergence().has_value());
  CHECK(*test.divergence() > 0.2);
  CHECK(*test.divergence() < 0.4);
}

TEST_CASE("sweeps that cannot be are refused") {
  CHECK_THROWS_AS(LrRangeTest({.from = 0}), BadArgument);
  CHECK_THROWS_AS(LrRangeTest({.from = 1, .to = 1}), BadArgument);
  CHECK_THROWS_AS(LrRangeTest({.to = INFINITY}), BadArgument);
  CHECK_THROWS_AS(LrRangeTest({.steps = 1}), BadArgument);
  CHECK_THROWS_AS(LrRangeTest({.smoothing = 1}), BadArgument);
  CHECK_THROWS_AS(LrRangeTest({.stop_factor = 1}), BadArgument);
}

}  // namespace accrue::test
