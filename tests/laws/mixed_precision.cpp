// Loss scaling: powers of two change no bits; a cycle that overflows changes nothing but the scale,
// once; the scale is constant within a cycle.
#include <algorithm>
#include <map>

#include "support.h"

namespace accrue::test {
namespace {

const Where single{Device::cpu(), DType::f32};
const Where wheres[]{single, {Device::cpu(), DType::bf16}, {Device::cpu(), DType::f16}, exact()};

struct Stage {
  Gpt model;
  TokenBatch batch;
  AdamW optimizer;
  explicit Stage(Where where)
      : model(made(where)),
        batch(token_batch(model.config, 6, where.device, 5, {6, 2, 5, 6, 0, 1})),
        optimizer(parameters(model), {.lr = 0.01, .weight_decay = 0.1, .clip = 1}) {}
  static Gpt made(Where where) {
    GptConfig config = tiny_gpt();
    config.dropout = 0.2;
    Gpt model(config);
    initialize(model, {where.device, where.dtype}, Seed{1});
    return model;
  }
  /// The micro-batch that holds sample `poisoned` has its loss multiplied by `by`.
  auto loss(int64_t poisoned = -1, double by = 1) const {
    return [this, poisoned, by](const TokenBatch& micro) {
      const Loss one = chunked_loss(model)(micro);
      const bool here = std::ranges::find(micro.indices, 1000 + poisoned) != micro.indices.end();
      return here ? Loss(scale(one.sum(), by), one.count()) : one;
    };
  }
  ClosedCycle run(Cycle& cycle, int64_t poisoned = -1, double by = 1) const {
    return cycle.run(batch, {.samples = 2}, loss(poisoned, by));
  }
  std::string bits() { return weight_bits(parameters(model)) + state_bits(optimizer); }
};

std::shared_ptr<LossScale> scale_of(double initial, int64_t interval = 2000) {
  return std::make_shared<LossScale>(LossScaleConfig{
      .initial = initial, .smallest = std::min(initial, 1.0), .growth_interval = interval});
}

}  // namespace

TEST_CASE("a loss scale that is a power of two changes no bit where nothing over- or underflows") {
  for (Where where : {single, Where{Device::cpu(), DType::bf16}, exact()})
    for (const auto& accumulator : accumulators::all()) {
      CAPTURE(text_of(where));
      CAPTURE(accumulator->name());
      const auto trained = [&](std::shared_ptr<LossScale> loss_scale) {
        Stage s(where);
        Cycle cycle(parameters(s.model),
                    {.accumulate = {{"*", accumulator}}, .loss_scale = std::move(loss_scale)});
        (void)s.run(cycle);  // fixed point learns its range
        std::string figures;
        for (int i = 0; i < 3; ++i) {
          const StepReport report = s.optimizer.step(s.run(cycle));
          CHECK(!report.skipped);
          figures += text(std::bit_cast<int64_t>(report.gradient_norm), ' ',
                          std::bit_cast<int64_t>(report.mean_loss), ' ');
        }
        return s.bits() + figures;
      };
      const std::string expected = trained(nullptr);
      for (double initial : {1.0, 65536.0, 0x1p-10}) CHECK(trained(scale_of(initial)) == expected);
      // Grows in between: still powers of two. Fixed point has learned its unit from the cycle
      // before, whose scale was another.
      if (!accumulator->may_overflow()) CHECK((trained(scale_of(1024, 1)) == expected));
      // And a scale that is no power of two shows.
      CHECK(trained(scale_of(1000)) != expected);
    }
}

TEST_CASE("the sums carry the scale, and divisor() takes it out") {
  Stage s(exact());
  Cycle plain(parameters(s.model)), scaled(parameters(s.model), {.loss_scale = scale_of(256)});
  const ClosedCycle a = s.run(plain), b = s.run(scaled);
  CHECK(b.count() == a.count());
  CHECK(b.divisor() == 256 * a.divisor());
  CHECK(b.mean_loss() == a.mean_loss());
  Many expected = sums_of(a);
  for (Numbers& numbers : expected)
    for (double& one : numbers) one *= 256;
  CHECK(sums_of(b) == expected);
}

TEST_CASE("an overflow in any micro-batch halves the scale once and changes nothing else") {
  for (Where where : wheres)
    for (const char* name : {"f32", "kahan", "tree", "fixed_point", "bf16_stochastic"})
      for (double by : {static_cast<double>(INFINITY), static_cast<double>(NAN)})
        for (int64_t at : {0, 3, 5}) {
          CAPTURE(text_of(where));
          CAPTURE(name);
          CAPTURE(at);
          Stage s(where);
          const auto loss_scale = scale_of(1024);
          Cycle cycle(parameters(s.model),
                      {.accumulate = accumulators::parse(name), .loss_scale = loss_scale});
          s.optimizer.step(s.run(cycle));
          const std::string before = s.bits();
          const StepReport report = s.optimizer.step(s.run(cycle, at, by));
          CHECK(report.skipped);
          CHECK(s.bits() == before);
          CHECK(cycle.step() == Step{1});
          CHECK(cycle.index() == CycleIndex{2});
          CHECK(loss_scale->value() == 512);
          CHECK(!s.optimizer.step(s.run(cycle)).skipped);
          CHECK(loss_scale->value() == 512);
        }
}

TEST_CASE("an overflow that the scale itself makes goes away as it shrinks") {
  Stage s(single);
  const auto loss_scale = scale_of(0x1p126);
  Cycle cycle(parameters(s.model), {.loss_scale = loss_scale});
  const std::string before = s.bits();
  int skipped = 0;
  while (s.optimizer.step(s.run(cycle)).skipped) {
    CHECK(s.bits() == before);
    REQUIRE(++skipped < 40);
    CHECK(loss_scale->value() == std::ldexp(0x1p126, -skipped));
  }
  CHECK(skipped > 0);
  CHECK(s.bits() != before);
}

TEST_CASE("the scale grows after so many good cycles, counted from its last change") {
  Stage s(single);
  const auto loss_scale = scale_of(8, 3);
  Cycle cycle(parameters(s.model), {.loss_scale = loss_scale});
  const auto after = [&](bool good) {
    CHECK(s.optimizer.step(s.run(cycle, good ? -1 : 0, NAN)).skipped != good);
    return loss_scale->value();
  };
  for (double expected : {8, 8, 16, 16, 16, 32}) CHECK(after(true) == expected);
  CHECK(after(true) == 32);
  CHECK(after(false) == 16);  // and the good one before it counts no more
  for (double expected : {16, 16, 32}) CHECK(after(true) == expected);
}

TEST_CASE("the scale is constant within a cycle and untouched by one that is dropped") {
  Stage s(single);
  const auto loss_scale = scale_of(8, 1);
  std::vector<double> seen;
  Cycle cycle(parameters(s.model), {.loss_scale = loss_scale, .at_edge = [&](MicroStep) {
                                      seen.push_back(loss_scale->value());
                                    }});
  s.optimizer.step(s.run(cycle));
  s.optimizer.step(s.run(cycle, 0, NAN));
  CHECK(seen == std::vector<double>{8, 8, 8, 16, 16, 16});
  CHECK(loss_scale->value() == 8);
  (void)s.run(cycle, 0, NAN);
  CHECK(loss_scale->value() == 8);
}

TEST_CASE("a cycle in which nothing counts is no overflow") {
  Stage s(single);
  const auto loss_scale = scale_of(8);
  Cycle cycle(parameters(s.model), {.loss_scale = loss_scale});
  const TokenBatch padding = token_batch(s.model.config, 2, single.device, 1, {0, 0});
  CHECK(s.optimizer.step(cycle.run(padding, {.samples = 1}, s.loss())).skipped);
  CHECK(loss_scale->value() == 8);
}

TEST_CASE("the scale never shrinks below its smallest value") {
  LossScale one({.initial = 4, .smallest = 1});
  for (int i = 0; i < 5; ++i) one.update(false);
  CHECK(one.value() == 1);
}

TEST_CASE("a checkpoint holds the scale and the good cycles since it changed") {
  LossScale saved({.initial = 1000, .growth_interval = 4}), loaded({.growth_interval = 4});
  saved.update(false), saved.update(true), saved.update(true);
  std::map<std::string, int64_t> integers;
  Visitor save({.integer = [&](const std::string& name, int64_t& n) { integers[name] = n; }});
  Visitor load({.integer = [&](const std::string& name, int64_t& n) { n = integers.at(name); }});
  saved.visit(save), loaded.visit(load);
  CHECK(loaded.value() == 500);
  for (LossScale* one : {&saved, &loaded}) one->update(true), one->update(true);
  CHECK(saved.value() == 1000);
  CHECK(loaded.value() == saved.value());
}

TEST_CASE("settings of the scale that cannot be are refused") {
  for (const LossScaleConfig& bad :
       {LossScaleConfig{.initial = 0}, LossScaleConfig{.growth = 0.5},
        LossScaleConfig{.backoff = 0}, LossScaleConfig{.backoff = 2},
        LossScaleConfig{.growth_interval = 0}, LossScaleConfig{.initial = INFINITY},
        LossScaleConfig{.smallest = 0}})
    CHECK_THROWS_AS(LossScale{bad}, BadArgument);
}

}  // namespace accrue::test
