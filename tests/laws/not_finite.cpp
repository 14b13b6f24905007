// Law 6: a cycle that is not finite changes nothing: parameters, optimizer state and Step, and what
// follows them: averages, the noise scale, the rate. Told not to skip, the same cycle changes all.
#include <map>

#include "laws/branched.h"

namespace accrue::test {
namespace {

const Where single{Device::cpu(), DType::f32}, half{Device::cpu(), DType::f16};
const Where wheres[]{single, {Device::cpu(), DType::bf16}, exact()};
constexpr double inf = INFINITY;

// One good step is done; then come others.
struct Trained {
  Branched s;
  std::unique_ptr<Optimizer> optimizer;
  Cycle cycle;

  Trained(Where where, size_t which, bool skip = true)
      : s(where),
        optimizer(make_optimizer(which, s.all())),
        cycle(s.all(), {.skip_non_finite = skip}) {
    CHECK(!step().skipped);
  }
  StepReport step() { return optimizer->step(s.run(cycle)); }
  // With one target of sample `at` spoilt.
  StepReport step_with(double poison, int64_t at) {
    const Tensor good = s.batch.y;
    Numbers y = good.to_vector();
    y[2 * at] = poison;
    s.batch.y = tensor_of(good.shape(), y, {good.device(), good.dtype()});
    const StepReport report = step();
    s.batch.y = good;
    return report;
  }
  std::string weights() const { return weight_bits(s.all()); }
  std::string bits() { return weights() + state_bits(*optimizer) + text(cycle.step().value); }
};

// A GPT in f16 with all that follows its steps.
struct Followed {
  Gpt model;
  TokenBatch batch;
  Schedule rate = std::function<double(Step)>([](Step s) { return 0.01 / (1.0 + s.value); });
  AdamW optimizer;
  Ema ema;
  NoiseScale noise{0.9};
  Cycle cycle;

  explicit Followed(CycleOptions options)
      : model(made()),
        batch(token_batch(model.config, 6, half.device, 5, {6, 2, 5, 6, 0, 1})),
        optimizer(parameters(model), {.lr = rate, .weight_decay = 0.1}),
        ema(parameters(model)),
        cycle(parameters(model), std::move(options)) {}
  static Gpt made() {
    Gpt model(tiny_gpt());
    initialize(model, {half.device, half.dtype}, Seed{1});
    return model;
  }
  // The loss of the micro-batch that holds sample `at` is multiplied by `by`.
  StepReport step(int64_t at = 0, double by = 1) {
    ClosedCycle closed = cycle.run(batch, {.samples = 2}, [&](const TokenBatch& micro) {
      const Loss one = chunked_loss(model)(micro);
      return at / 2 == (micro.indices[0] - 1000) / 2 ? Loss(scale(one.sum(), by), one.count())
                                                     : one;
    });
    const std::optional<Prefix> prefix = closed.prefix();
    const StepReport report = optimizer.step(std::move(closed));
    ema.update(report);
    noise.update(prefix, report);
    return report;
  }
  std::map<std::string, std::string> parts() {
    return {{"weights", weight_bits(parameters(model))},
            {"optimizer", state_bits(optimizer)},
            {"averages", state_bits(ema)},
            {"noise scale", state_bits(noise)},
            {"Step", text(cycle.step().value)},
            {"rate", text(rate(cycle.step()))}};
  }
};

}  // namespace

TEST_CASE("a cycle with an infinite or undefined loss changes nothing but the count of cycles") {
  for (Where where : wheres)
    for (size_t which = 0; which < optimizer_count; ++which)
      for (double poison : {inf, -inf, static_cast<double>(NAN)})
        for (int64_t at : {0, 2, 5}) {
          Trained t(where, which);
          const std::string before = t.bits();
          const StepReport report = t.step_with(poison, at);
          CHECK(report.skipped);
          CHECK(report.step == Step{1});
          CHECK(!std::isfinite(report.mean_loss));
          CHECK(t.bits() == before);
          CHECK(t.cycle.step() == Step{1});
          CHECK(t.cycle.index() == CycleIndex{2});
          CHECK(!t.step().skipped);  // and the next cycle knows nothing of it
          CHECK(t.cycle.step() == Step{2});
        }
}

TEST_CASE("with skip_non_finite = false it changes weights, optimizer and Step") {
  for (Where where : wheres)
    for (size_t which = 0; which < optimizer_count; ++which)
      for (double poison : {inf, -inf, static_cast<double>(NAN)}) {
        Trained t(where, which, /*skip=*/false);
        const std::string weights = t.weights(), state = state_bits(*t.optimizer);
        const StepReport report = t.step_with(poison, 2);
        CHECK(!report.skipped);
        CHECK(t.weights() != weights);
        CHECK(state_bits(*t.optimizer) != state);
        CHECK(t.cycle.step() == Step{2});
      }
}

TEST_CASE("a finite loss with an infinite sum of gradients is skipped as well") {
  for (bool skip : {true, false}) {
    const Branched s;
    Sgd optimizer(s.all());
    Cycle cycle(s.all(), {.skip_non_finite = skip});
    const std::string weights = weight_bits(s.all());
    // A bias gets 10³⁸ from each of six rows: more than f32 holds. Outputs are about 10⁻³.
    ClosedCycle closed = cycle.run(s.batch, {.samples = 2}, [&](const Rows& r) {
      return Loss(sum(scale(s.net(scale(r.x, 1e-3)), 1e38)), 2);
    });
    CHECK(std::isfinite(closed.mean_loss()));
    CHECK(optimizer.step(std::move(closed)).skipped == skip);
    CHECK((weight_bits(s.all()) == weights) == skip);
  }
}

TEST_CASE("a cycle in which nothing counts is skipped") {
  const GptConfig config = tiny_gpt();
  Gpt model(config);
  initialize(model, {single.device, single.dtype}, Seed{1});
  Cycle cycle(parameters(model));
  AdamW optimizer(parameters(model));
  const std::string weights = weight_bits(parameters(model));
  const TokenBatch padding = token_batch(config, 2, single.device, 1, {0, 0});
  CHECK(optimizer.step(cycle.run(padding, {.samples = 1}, chunked_loss(model))).skipped);
  CHECK(weight_bits(parameters(model)) == weights);
}

TEST_CASE("an f16 gradient that overflows beside a finite loss leaves averages alone as well") {
  for (int64_t at : {0, 3, 5}) {
    CAPTURE(at);
    const auto loss_scale = std::make_shared<LossScale>(LossScaleConfig{.initial = 1024});
    Followed t({.loss_scale = loss_scale, .noise_scale = true});
    CHECK(!t.step().skipped);
    const auto before = t.parts();
    const StepReport report = t.step(at, 1e4);  // 1024·10⁴ is more than f16 holds
    CHECK(report.skipped);
    CHECK(std::isfinite(report.mean_loss));
    CHECK(!std::isfinite(report.gradient_norm));
    for (const auto& [name, bits] : t.parts()) CHECK_MESSAGE(bits == before.at(name), name);
    CHECK(loss_scale->value() == 512);
    CHECK(!t.step(at, 10).skipped);
    for (const auto& [name, bits] : t.parts()) CHECK_MESSAGE(bits != before.at(name), name);
  }
}

TEST_CASE("that overflow, not skipped, changes all but the noise scale, which asks for a norm") {
  Followed t({.skip_non_finite = false, .noise_scale = true});
  CHECK(!t.step().skipped);
  const auto before = t.parts();
  const StepReport report = t.step(3, 1e7);
  CHECK(!report.skipped);
  CHECK(std::isfinite(report.mean_loss));
  for (const auto& [name, bits] : t.parts())
    CHECK_MESSAGE((bits != before.at(name)) == (name != "noise scale"), name);
}

}  // namespace accrue::test
