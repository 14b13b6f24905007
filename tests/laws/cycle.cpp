// Law 2: buffers keep their address, nothing leaks into the next cycle, optimizers leave sums
// intact. Law 3 is in autograd/tape.cpp. Law 6: a cycle that is not finite changes nothing.
#include <memory>

#include "support.h"

namespace accrue::test {
namespace {

const Where single{Device::cpu(), DType::f32};

struct Net {
  Linear up{3, 4, normal(0.5)}, down{4, 2, normal(0.5)}, side{3, 2, normal(0.5)};
  Var operator()(const Var& x) const { return down(gelu(up(x))); }
  void visit(Visitor& part) { part("up", up), part("down", down), part("side", side); }
};

struct Stage {
  Net net;
  Rows batch;
  explicit Stage(Where where = single) : batch(random_rows(6, 3, 2, where, 1)) {
    initialize(net, {where.device, where.dtype}, Seed{1});
  }
  Loss loss(const Rows& micro, bool with_side) const {
    const Var y = with_side ? net(micro.x) + net.side(micro.x) : net(micro.x);
    return mean_squared_error(y, micro.y);
  }
  ClosedCycle run(Cycle& cycle, bool with_side = true) const {
    return cycle.run(batch, {.samples = 2},
                     [=, this](const Rows& r) { return loss(r, with_side); });
  }
};

std::vector<std::unique_ptr<Optimizer>> all_optimizers(const Parameters& p) {
  std::vector<std::unique_ptr<Optimizer>> all;
  all.push_back(
      std::make_unique<Sgd>(p, SgdConfig{.momentum = 0.9, .weight_decay = 0.1, .nesterov = true}));
  all.push_back(std::make_unique<Adam>(p, AdamConfig{.weight_decay = 0.1}));
  all.push_back(std::make_unique<AdamW>(p, AdamConfig{.weight_decay = 0.1, .clip = 1e-3}));
  return all;
}

// An optimizer that looks at the sums it is given, and at their bits after another one's step.
struct Spy final : Optimizer {
  explicit Spy(const Parameters& p) : Optimizer(p, {}, 0, 1.0, 0, {}) {}
  std::string seen;
  std::vector<double> scales;
  size_t absent = 0;

 private:
  void update(const Update& u, const Group&, std::span<const size_t>,
              std::span<const In> sums) override {
    scales.push_back(u.scale);
    for (const In& sum : sums) {
      absent += !sum;
      if (sum)
        seen.append(static_cast<const char*>(sum.data), sum.shape.elements() * size_of(sum.dtype));
    }
  }
};

}  // namespace

TEST_CASE("buffers keep their address over cycles, steps and discards") {
  for (const auto& accumulator : accumulators::all()) {
    CAPTURE(accumulator->name());
    Stage s;
    Sgd optimizer(parameters(s.net));
    Cycle cycle(parameters(s.net), {.accumulate = {{"*", accumulator}}});
    std::vector<const void*> first;
    for (int i = 0; i < 4; ++i) {
      ClosedCycle closed = s.run(cycle);
      std::vector<const void*> now;
      for (const auto& buffer : closed.buffers()) now.push_back(buffer->sum().data);
      if (first.empty()) first = now;
      CHECK(now == first);
      if (i % 2 == 0) optimizer.step(std::move(closed));
    }
  }
}

TEST_CASE(
    "nothing leaks into the next cycle: a parameter that it does not touch gets exactly zero") {
  for (const auto& accumulator : accumulators::all()) {
    CAPTURE(accumulator->name());
    Stage s;
    Cycle cycle(parameters(s.net), {.accumulate = {{"*", accumulator}}});
    CHECK(s.run(cycle).sum(s.net.side.weight));
    const ClosedCycle second = s.run(cycle, /*with_side=*/false);
    CHECK(!second.sum(s.net.side.weight));
    Cycle fresh(parameters(s.net), {.accumulate = {{"*", accumulator}}});
    { const ClosedCycle first = s.run(fresh, false); }  // stochastic rounding is keyed by cycle
    CHECK(sums_of(second) == sums_of(s.run(fresh, false)));
  }
}

TEST_CASE("an exactly zero gradient moves a weight by decay and momentum alone") {
  Stage s;
  Cycle cycle(parameters(s.net));
  Sgd plain(parameters(s.net), {.lr = 0.1});
  const std::string before = bits_of(s.net.side.weight.master());
  plain.step(s.run(cycle, false));
  CHECK(bits_of(s.net.side.weight.master()) == before);
  const Numbers weights = s.net.side.weight.master().to_vector();
  Sgd decaying(parameters(s.net), {.lr = 0.1, .weight_decay = 0.5});
  decaying.step(s.run(cycle, false));
  const Numbers after = s.net.side.weight.master().to_vector();
  // Two roundings in f32 on each side.
  for (size_t i = 0; i < weights.size(); ++i)
    CHECK(std::abs(after[i] - 0.95 * weights[i]) <= 4 * u_f32 * std::abs(weights[i]));
}

TEST_CASE("optimizers leave the sums intact") {
  for (Where where : {single, Where{Device::cpu(), DType::bf16}, exact()})
    for (size_t which = 0; which < 3; ++which) {
      Stage s(where);
      const auto optimizer = std::move(all_optimizers(parameters(s.net))[which]);
      Cycle cycle(parameters(s.net));
      ClosedCycle closed = s.run(cycle);
      std::vector<const GradBuffer*> buffers;
      for (const auto& buffer : closed.buffers()) buffers.push_back(buffer);
      std::vector<std::string> before;
      for (const GradBuffer* buffer : buffers) before.push_back(bits_of(buffer->state("sum")));
      CHECK(!optimizer->step(std::move(closed)).skipped);
      for (size_t i = 0; i < buffers.size(); ++i)
        CHECK(bits_of(buffers[i]->state("sum")) == before[i]);  // the memory is the cycle's still
    }
}

TEST_CASE(
    "an optimizer sees the raw sums, one over their count, and nothing for what was not touched") {
  Stage s;
  Spy spy(parameters(s.net));
  Cycle cycle(parameters(s.net));
  ClosedCycle closed = s.run(cycle, false);
  std::string sums;
  for (const auto& buffer : closed.buffers())
    if (buffer->touched()) sums += bits_of(buffer->state("sum"));
  const double count = closed.count();
  const StepReport report = step(std::move(closed), spy);
  CHECK(spy.seen == sums);
  CHECK(spy.scales == std::vector<double>{1 / count});
  CHECK(spy.absent == 2);
  CHECK(report.step == Step{1});
}

TEST_CASE("a ClosedCycle that is dropped leaves the model, the optimizer and Step untouched") {
  Stage s;
  AdamW optimizer(parameters(s.net));
  Cycle cycle(parameters(s.net));
  optimizer.step(s.run(cycle));
  const std::string weights = weight_bits(parameters(s.net)), state = state_bits(optimizer);
  (void)s.run(cycle);
  CHECK(weight_bits(parameters(s.net)) == weights);
  CHECK(state_bits(optimizer) == state);
  CHECK(cycle.step() == Step{1});
  CHECK(!optimizer.step(s.run(cycle)).skipped);
  CHECK(weight_bits(parameters(s.net)) != weights);
}

TEST_CASE("a cycle with an infinite or undefined loss changes nothing but the count of cycles") {
  for (Where where : {single, Where{Device::cpu(), DType::bf16}, exact()})
    for (size_t which = 0; which < 3; ++which)
      for (double poison : {static_cast<double>(INFINITY), static_cast<double>(-INFINITY),
                            static_cast<double>(NAN)})
        for (int64_t at : {0, 2, 5}) {
          Stage s(where);
          const auto optimizer = std::move(all_optimizers(parameters(s.net))[which]);
          Cycle cycle(parameters(s.net));
          optimizer->step(s.run(cycle));
          const std::string weights = weight_bits(parameters(s.net)),
                            state = state_bits(*optimizer);
          const Tensor good = s.batch.y;
          Numbers y = good.to_vector();
          y[2 * at] = poison;
          s.batch.y = tensor_of({6, 2}, y, where);
          const StepReport report = optimizer->step(s.run(cycle));
          CHECK(report.skipped);
          CHECK(report.step == Step{1});
          CHECK(!std::isfinite(report.mean_loss));
          CHECK(weight_bits(parameters(s.net)) == weights);
          CHECK(state_bits(*optimizer) == state);
          CHECK(cycle.step() == Step{1});
          CHECK(cycle.index() == CycleIndex{2});
          s.batch.y = good;  // and the next cycle knows nothing of it
          CHECK(!optimizer->step(s.run(cycle)).skipped);
          CHECK(cycle.step() == Step{2});
        }
}

TEST_CASE("a finite loss with an infinite sum of gradients is skipped as well") {
  Stage s;
  Sgd optimizer(parameters(s.net));
  Cycle cycle(parameters(s.net));
  const std::string weights = weight_bits(parameters(s.net));
  // A bias gets 10³⁸ from each of six rows: more than f32 holds. Outputs are about 10⁻³.
  ClosedCycle closed = cycle.run(s.batch, {.samples = 2}, [&](const Rows& r) {
    return Loss(sum(scale(s.net(scale(r.x, 1e-3)), 1e38)), 2);
  });
  CHECK(std::isfinite(closed.mean_loss()));
  CHECK(optimizer.step(std::move(closed)).skipped);
  CHECK(weight_bits(parameters(s.net)) == weights);
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

TEST_CASE_TEMPLATE("working copies follow their masters after a step, and no sooner", T, BFloat16,
                   Float16) {
  const Where where{Device::cpu(), dtype_of<T>};
  Stage s(where);
  Cycle cycle(parameters(s.net));
  for (size_t which = 0; which < 3; ++which) {
    const auto optimizer = std::move(all_optimizers(parameters(s.net))[which]);
    for (bool with_side : {true, false}) {
      const auto weight = s.net.side.weight.state();
      const std::string before = bits_of(weight->working());
      ClosedCycle closed = s.run(cycle, with_side);
      CHECK(bits_of(weight->working()) == before);
      optimizer->step(std::move(closed));
      for (const auto& one : parameters(s.net).list)
        CHECK(one->working().to_vector() ==
              tensor_of(one->shape, one->master.to_vector(), where).to_vector());
    }
  }
}

}  // namespace accrue::test
