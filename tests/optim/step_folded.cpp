// A cycle of which a part goes into an optimizer's moments and the rest is stepped by another.
#include "support.h"

namespace accrue::test {
namespace {

struct Stage {
  Linear net{3, 2, normal(0.5)};
  Rows batch = random_rows(4, 3, 2, exact(), 1);
  Stage() { initialize(net, {exact().device, exact().dtype}, Seed{1}); }
  Parameters weights() const { return parameters(net).matching("weight"); }
  Parameters biases() const { return parameters(net).matching("bias"); }
  CycleOptions into(Adam& adam) const {
    return {.accumulate = {{"weight", into_moments(adam)}}, .skip_non_finite = false};
  }
  ClosedCycle run(Cycle& cycle) const {
    return cycle.run(batch, {.samples = 2}, [&](const Rows& r) {
      return Loss::share(mean_squared_error(net(r.x), r.y).sum(), 8);
    });
  }
};

}  // namespace

TEST_CASE("moments and sums are stepped together, each by its own optimizer, without a clip") {
  const Stage s;
  AdamW adam(s.weights());
  Sgd sgd(s.biases(), {.momentum = 0.9});
  Cycle cycle(parameters(s.net), s.into(adam));
  const std::string weights = weight_bits(s.weights()), biases = weight_bits(s.biases());
  const StepReport report = step(s.run(cycle), adam, sgd);
  CHECK(!report.skipped);
  CHECK(std::isnan(report.gradient_norm));  // of the weights there is no sum
  CHECK(weight_bits(s.weights()) != weights);
  CHECK(weight_bits(s.biases()) != biases);
}

// The cycle knows nothing of the other optimizer, so that nobody can refuse before step().
TEST_CASE("a clip of the other optimizer is refused by step(): weights stay, moments have moved") {
  const Stage s;
  AdamW adam(s.weights());
  Sgd clipped(s.biases(), {.momentum = 0.9, .clip = 1}), plain(s.biases(), {.momentum = 0.9});
  Cycle cycle(parameters(s.net), s.into(adam));
  const std::string weights = weight_bits(parameters(s.net)), moments = state_bits(adam),
                    velocity = state_bits(clipped);
  CHECK(contains(message_of<BadArgument>([&] { step(s.run(cycle), adam, clipped); }), "one clip"));
  CHECK(weight_bits(parameters(s.net)) == weights);
  CHECK(state_bits(clipped) == velocity);
  CHECK(cycle.step() == Step{0});
  CHECK(state_bits(adam) != moments);  // as into_moments() says of a cycle that is discarded
  CHECK(!step(s.run(cycle), adam, plain).skipped);  // the cycle is idle again
}

}  // namespace accrue::test
