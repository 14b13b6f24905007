// What verify_cycle() must leave alone, what it replays alike, and what it refuses.
#include "accrue/optim/consumption.h"
#include "laws/cycle_norm.h"
#include "laws/verify.h"

namespace accrue::test {

TEST_CASE("other random numbers in the replay would be seen") {
  const Verified stage(exact());
  int64_t calls = 0;  // dropout's sites are keyed by their call: one more shifts them
  const RandomSite site{"site", Seed{1}};
  const Cycle cycle(parameters(stage.model));
  const Verification report =
      verify_cycle(cycle, stage.batch, {.samples = 8}, [&](const TokenBatch& micro) {
        if (calls++ > 0) Tape::current()->random_key(site);
        return cross_entropy(dropout(stage.model(micro.tokens), 0.5, site), micro.targets);
      });
  CHECK(worst(report) > 0.01);
}

TEST_CASE("model, optimizer and cycle are byte-identical afterwards, and so is the next cycle") {
  for (const char* choice : {"f32", "fixed_point", "bf16_stochastic", "tree"}) {
    CAPTURE(choice);
    Verified stage(f32), other(f32);
    const auto scale = std::make_shared<LossScale>(LossScaleConfig{.initial = 4096});
    const CycleOptions options{.accumulate = accumulators::parse(choice), .loss_scale = scale};
    const auto loss = [](const Verified& s) { return chunked_loss(s.model); };
    Cycle cycle(parameters(stage.model), options), untouched(parameters(other.model), options);
    AdamW optimizer(parameters(stage.model)), its(parameters(other.model));
    for (int step = 0; step < 2; ++step) {
      const std::string before = weight_bits(parameters(stage.model)) + state_bits(cycle) +
                                 state_bits(optimizer) + text(scale->value());
      const Verification report = verify_cycle(cycle, stage.batch, {.samples = 3}, loss(stage));
      CHECK(worst(report) < 0.1);
      CHECK(weight_bits(parameters(stage.model)) + state_bits(cycle) + state_bits(optimizer) +
                text(scale->value()) ==
            before);
      optimizer.step(cycle.run(stage.batch, {.samples = 3}, loss(stage)));
      its.step(untouched.run(other.batch, {.samples = 3}, loss(other)));
      CHECK(weight_bits(parameters(stage.model)) == weight_bits(parameters(other.model)));
    }
    CHECK(cycle.step() == Step{2});
  }
}

TEST_CASE("cycle operations replay through the closure form, their rules checked too") {
  const ResidualNet net;
  const Rows batch = random_rows(24, 6, 3, exact(), 1);
  const Cycle cycle(parameters(net));
  const Verification report =
      verify_cycle(cycle, batch, {.samples = 7},
                   [&](const Rows& micro) {
                     net.forget();  // all micro-batches are recorded before the first gathers
                     return net.loss(micro);
                   },
                   {.rules = true});
  CHECK(worst(report) <= 1e-12);
  CHECK(report.micro_batches.size() == 4);
  CHECK(std::abs(report.loss / report.exact_loss - 1) <= 1e-13);
  for (const ParameterError& one : report.parameters) CHECK(*one.rule <= 1e-6);
}

TEST_CASE("what a filter dropped or weighed is reported and replayed alike") {
  Verified stage(exact(), tiny_gpt());
  const Verification clipped = stage.verify({.filter = filters::clip(0.5)});
  CHECK(worst(clipped) <= 1e-13);
  CHECK(clipped.micro_batches[0].factor < 1);
  const Cycle cycle(parameters(stage.model), {.filter = filters::drop_non_finite()});
  const Verification dropped =
      verify_cycle(cycle, stage.batch, {.samples = 3}, [&](const TokenBatch& micro) {
        const Loss loss = cross_entropy(stage.model(micro.tokens), micro.targets);
        return micro.indices[0] == 1003 ? Loss(scale(loss.sum(), INFINITY), loss.count()) : loss;
      });
  CHECK(worst(dropped) <= 1e-13);
  CHECK(dropped.micro_batches[1].factor == 0);
  CHECK(dropped.count == 27 - 8);
  CHECK(std::abs(dropped.loss / dropped.exact_loss - 1) <= 1e-14);
}

TEST_CASE("sums that are freed when the cycle ends are compared before") {
  struct Freed final : Accumulator {
    std::string_view name() const override { return "freed"; }
    bool fused() const override { return false; }
    double error_bound(int64_t k) const override { return static_cast<double>(k) * u_f32; }
    std::vector<State> state(DType wide, const Shape&) const override { return {{"sum?", wide}}; }
  };
  const Verified stage(exact());
  CHECK(worst(stage.verify({.accumulate = {{"*", std::make_shared<Freed>()}}})) <= 1e-13);
}

TEST_CASE("progress only grows, in [0, 1], and ends at 1") {
  const Verified stage(f32);
  for (bool rules : {false, true}) {
    std::vector<double> told;
    const Cycle cycle(parameters(stage.model));
    (void)verify_cycle(cycle, stage.batch, {.samples = 3}, chunked_loss(stage.model),
                       {.rules = rules, .progress = [&](double part) { told.push_back(part); }});
    CHECK(told.size() > 50);
    CHECK(std::ranges::is_sorted(told));
    CHECK(told.front() >= 0);
    CHECK(told[told.size() - 2] > 0.9);
    CHECK(told.back() == 1);
  }
}

TEST_CASE("a cycle under way, a dry run and moments for sums are refused; errors leave it idle") {
  const Verified stage(f32);
  const auto loss = chunked_loss(stage.model);
  Cycle cycle(parameters(stage.model));
  const auto verify = [&](Cycle& one) {
    (void)verify_cycle(one, stage.batch, {.samples = 3}, loss);
  };
  {
    const ClosedCycle closed = cycle.run(stage.batch, {.samples = 8}, loss);
    CHECK(contains(message_of<BadOrder>([&] { verify(cycle); }), "idle"));
  }
  {
    const ModeScope dry(Mode::dry);
    CHECK(contains(message_of<BadOrder>([&] { verify(cycle); }), "dry"));
  }
  Adam adam(parameters(stage.model));
  Cycle moments(parameters(stage.model),
                {.accumulate = {{"*", into_moments(adam)}}, .skip_non_finite = false});
  CHECK(contains(message_of<BadArgument>([&] { verify(moments); }), "adam_a"));
  CHECK_THROWS_AS((void)verify_cycle(cycle, stage.batch, {.samples = 3},
                                     [](const TokenBatch&) -> Loss { throw Failure("[test]"); }),
                  Failure);
  verify(cycle);
  CHECK(cycle.index() == CycleIndex{1});
}

}  // namespace accrue::test
