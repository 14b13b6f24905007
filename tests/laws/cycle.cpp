// Law 2: buffers keep their address, nothing leaks into the next cycle, optimizers leave sums
// intact, a dropped ClosedCycle leaves the model untouched. What breaks it fails the same question.
#include "laws/branched.h"

namespace accrue::test {
namespace {

const Where single{Device::cpu(), DType::f32};

using Stage = Branched;
using Chosen = std::shared_ptr<const Accumulator>;

CycleOptions with(const Chosen& accumulator) { return {.accumulate = {{"*", accumulator}}}; }

// ---- what the law says, as questions

// Over cycles, steps and discards: does each sum lie where it lay in the first?
bool sums_stay(const Chosen& accumulator) {
  const Stage s;
  Sgd optimizer(s.all());
  Cycle cycle(s.all(), with(accumulator));
  std::vector<const void*> first;
  for (int i = 0; i < 4; ++i) {
    ClosedCycle closed = s.run(cycle);
    std::vector<const void*> now;
    for (const auto& buffer : closed.buffers()) now.push_back(buffer->sum().data);
    if (first.empty()) first = now;
    if (now != first) return false;
    if (i % 2 == 0) optimizer.step(std::move(closed));
  }
  return true;
}

// Has a cycle the same sums, whether the one before it used `side` or not? Both are the second of
// their kind: stochastic rounding is keyed by cycle.
bool forgets(const Chosen& accumulator) {
  const Stage s;
  const auto after = [&](bool with_side) {
    Cycle cycle(s.all(), with(accumulator));
    CHECK(static_cast<bool>(s.run(cycle, with_side).sum(s.net.side.weight)) == with_side);
    const ClosedCycle second = s.run(cycle, /*with_side=*/false);
    CHECK(!second.sum(s.net.side.weight));
    return sums_of(second);
  };
  return after(true) == after(false);
}

// Have the sums the same bits after a step? Their memory is the cycle's still.
bool leaves_sums(const Stage& s, Optimizer& optimizer) {
  Cycle cycle(s.all());
  ClosedCycle closed = s.run(cycle);
  const std::vector<const GradBuffer*> buffers = closed.buffers();
  const auto bits = [&] {
    std::string all;
    for (const GradBuffer* buffer : buffers) all += bits_of(buffer->state("sum"));
    return all;
  };
  const std::string before = bits();
  CHECK(!optimizer.step(std::move(closed)).skipped);
  return bits() == before;
}

// Are model and optimizer the same after a cycle that is dropped?
bool drop_leaves(const Stage& s, Optimizer& optimizer, Cycle& cycle) {
  const auto bits = [&] { return weight_bits(s.all()) + state_bits(optimizer); };
  const std::string before = bits();
  (void)s.run(cycle);
  return bits() == before;
}

// ---- what breaks it

struct Folded : Accumulator {
  bool fused() const override { return false; }
  double error_bound(int64_t k) const override { return accumulators::f32()->error_bound(k); }
};

// A new sum in each cycle. The old ones live on, so that no two share an address.
struct Moves final : Folded {
  mutable std::vector<Tensor> old;
  std::string_view name() const override { return "moves"; }
  void fold(GradBuffer& buffer, In micro, Write write) const override {
    Tensor& sum = buffer.state("sum");
    if (write == Write::set) {
      old.push_back(sum);
      sum = empty_like(sum);
    }
    Accumulator::fold(buffer, micro, write);
  }
};

// Sets once in its life, and adds in the next cycles too.
struct Remembers final : Folded {
  std::string_view name() const override { return "remembers"; }
  std::vector<std::string> numbers() const override { return {"folds"}; }
  void fold(GradBuffer& buffer, In micro, Write) const override {
    const bool first = buffer.number("folds")++ == 0;
    Accumulator::fold(buffer, micro, first ? Write::set : Write::add);
  }
};

// Divides in place. Sums come as In, which nothing writes to: it takes a const_cast.
struct Divides final : Optimizer {
  explicit Divides(const Parameters& p) : Optimizer(p, {}, 0, 1.0, 0, {}) {}

 private:
  void update(const Update& u, const Group&, std::span<const size_t>,
              std::span<const In> sums) override {
    for (const In& sum : sums) {
      const Out place{const_cast<void*>(sum.data), sum.shape, sum.strides, sum.dtype};
      launch(parameter(0).master.device(), kernel::Scale{sum, {}, u.scale, place, Write::set});
    }
  }
};

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
    CHECK(sums_stay(accumulator));
  }
  CHECK_FALSE(sums_stay(std::make_shared<Moves>()));
}

TEST_CASE(
    "nothing leaks into the next cycle: a parameter that it does not touch gets exactly zero") {
  for (const auto& accumulator : accumulators::all()) {
    CAPTURE(accumulator->name());
    CHECK(forgets(accumulator));
  }
  CHECK_FALSE(forgets(std::make_shared<Remembers>()));
}

TEST_CASE("an exactly zero gradient moves a weight by decay and momentum alone") {
  Stage s;
  Cycle cycle(s.all());
  Sgd plain(s.all(), {.lr = 0.1});
  const std::string before = bits_of(s.net.side.weight.master());
  plain.step(s.run(cycle, false));
  CHECK(bits_of(s.net.side.weight.master()) == before);
  const Numbers weights = s.net.side.weight.master().to_vector();
  Sgd decaying(s.all(), {.lr = 0.1, .weight_decay = 0.5});
  decaying.step(s.run(cycle, false));
  const Numbers after = s.net.side.weight.master().to_vector();
  // Two roundings in f32 on each side.
  for (size_t i = 0; i < weights.size(); ++i)
    CHECK(std::abs(after[i] - 0.95 * weights[i]) <= 4 * u_f32 * std::abs(weights[i]));
}

TEST_CASE("optimizers leave the sums intact") {
  for (Where where : {single, Where{Device::cpu(), DType::bf16}, exact()}) {
    CAPTURE(text_of(where));
    for (size_t which = 0; which < optimizer_count; ++which) {
      const Stage s(where);
      CHECK(leaves_sums(s, *make_optimizer(which, s.all())));
    }
    const Stage s(where);
    Divides divides(s.all());
    CHECK_FALSE(leaves_sums(s, divides));
  }
}

TEST_CASE(
    "an optimizer sees the raw sums, one over their count, and nothing for what was not touched") {
  Stage s;
  Spy spy(s.all());
  Cycle cycle(s.all());
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
  const Stage s;
  AdamW optimizer(s.all());
  Cycle cycle(s.all());
  optimizer.step(s.run(cycle));
  CHECK(drop_leaves(s, optimizer, cycle));
  CHECK(cycle.step() == Step{1});
  const std::string weights = weight_bits(s.all());
  CHECK(!optimizer.step(s.run(cycle)).skipped);
  CHECK(weight_bits(s.all()) != weights);
}

TEST_CASE("one that was stepped in backward has changed the model by then") {
  const Stage s;
  AdamW optimizer(s.all());
  Cycle cycle(s.all(), {.consume = in_backward({&optimizer}), .skip_non_finite = false});
  CHECK_FALSE(drop_leaves(s, optimizer, cycle));
}

TEST_CASE_TEMPLATE("working copies follow their masters after a step, and no sooner", T, BFloat16,
                   Float16) {
  const Where where{Device::cpu(), dtype_of<T>};
  Stage s(where);
  Cycle cycle(s.all());
  for (size_t which = 0; which < optimizer_count; ++which) {
    const auto optimizer = make_optimizer(which, s.all());
    for (bool with_side : {true, false}) {
      const auto weight = s.net.side.weight.state();
      const std::string before = bits_of(weight->working());
      ClosedCycle closed = s.run(cycle, with_side);
      CHECK(bits_of(weight->working()) == before);
      optimizer->step(std::move(closed));
      for (const auto& one : s.all().list)
        CHECK(one->working().to_vector() ==
              tensor_of(one->shape, one->master.to_vector(), where).to_vector());
    }
  }
}

TEST_CASE("a closed cycle is stepped once; a second time is refused and changes nothing") {
  const Stage s;
  Sgd optimizer(s.all());
  Cycle cycle(s.all());
  ClosedCycle closed = s.run(cycle);
  CHECK(optimizer.step(std::move(closed)).step == Step{1});
  const std::string before = weight_bits(s.all());
  CHECK_THROWS_WITH_AS(optimizer.step(std::move(closed)), doctest::Contains("was stepped"),
                       BadOrder);
  const auto refused = [](const ClosedCycle& one, const Parameter& parameter) {
    CHECK_THROWS_AS(one.sum(parameter), BadOrder);
    CHECK_THROWS_AS(one.mean_loss(), BadOrder);
    CHECK_THROWS_AS(one.count(), BadOrder);
    CHECK_THROWS_AS(one.is_of_shares(), BadOrder);
    CHECK_THROWS_AS(one.divisor(), BadOrder);
    CHECK_THROWS_AS(one.prefix(), BadOrder);
    CHECK_THROWS_AS(one.records(), BadOrder);
    CHECK_THROWS_AS(one.skips_non_finite(), BadOrder);
    CHECK_THROWS_AS(one.micro_batches(), BadOrder);
    CHECK_THROWS_AS(one.step(), BadOrder);
    CHECK_THROWS_AS(one.index(), BadOrder);
    CHECK_THROWS_AS(one.buffers(), BadOrder);
  };
  refused(closed, s.net.side.weight);
  CHECK_THROWS_AS(std::move(closed).finish(true), BadOrder);
  CHECK(weight_bits(s.all()) == before);
  ClosedCycle moved = s.run(cycle);
  const ClosedCycle other = std::move(moved);
  refused(moved, s.net.side.weight);
  CHECK(other.step() == Step{1});
}

}  // namespace accrue::test
