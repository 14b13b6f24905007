// Reproducibility together with other choices: consumption, f16, many steps, threads, random keys.
#include "laws/tiers.h"

namespace accrue::test {
namespace {

constexpr Reproducible tiers[]{Reproducible::split, Reproducible::ranks};

CycleOptions in(Reproducible tier) { return {.reproducible = tier}; }

// Each thread has a sum of its own for the micro-batches that fall to it; at last these are added.
struct ByThreads final : Accumulator {
  static constexpr int64_t most = 5;
  static std::string lane(int64_t i) { return text("lane", i); }

  std::string_view name() const override { return "by_threads"; }
  bool fused() const override { return false; }
  bool running_sum() const override { return false; }
  double error_bound(int64_t k) const override { return accumulators::f32()->error_bound(k); }
  std::vector<State> state(DType wide, const Shape&) const override {
    std::vector<State> all{{"sum", wide}};
    for (int64_t i = 0; i < most; ++i) all.push_back({lane(i), wide});
    return all;
  }
  std::vector<std::string> numbers() const override { return {"used"}; }  // bit i: lane i
  void fold(GradBuffer& buffer, In micro, Write write) const override {
    int64_t& used = buffer.number("used");
    if (write == Write::set) used = 0;
    const int64_t thread = buffer.facts().micro.value % omp_get_max_threads();
    Tensor& own = buffer.state(lane(thread));
    const Write how = used >> thread & 1 ? Write::add : Write::set;
    launch(own.device(), kernel::Copy{micro, own.out(), how});
    used |= int64_t{1} << thread;
  }
  bool finish(GradBuffer& buffer) const override {
    Tensor& sum = buffer.state("sum");
    Write how = Write::set;
    for (int64_t i = 0; i < most; ++i) {
      if (!(buffer.number("used") >> i & 1)) continue;
      launch(sum.device(), kernel::Copy{buffer.state(lane(i)).in(), sum.out(), how});
      how = Write::add;
    }
    return true;
  }
};

}  // namespace

TEST_CASE("split and ranks with steps in backward: the same bits for every micro-batch size") {
  for (Where where : {single, half})
    for (Reproducible tier : tiers) {
      const Choose choose = [tier](AdamW& adam) {
        return CycleOptions{
            .consume = in_backward({&adam}), .reproducible = tier, .skip_non_finite = false};
      };
      const std::string expected = trained(Stage(where), choose, 12, 2, 0);
      for (int64_t size : {1, 3, 5, 7})
        CHECK(trained(Stage(where), choose, size, 2, 0) == expected);
    }
}

TEST_CASE(
    "split with AdamA and batch-size-invariant Adam: the same bits, which run does not give") {
  for (Where where : {single, half})
    for (double exponent : {0.0, 1.0}) {
      const auto choose = [exponent](Reproducible tier) -> Choose {
        return [=](AdamW& adam) {
          return CycleOptions{.accumulate = {{"*", into_moments(adam, exponent)}},
                              .reproducible = tier,
                              .skip_non_finite = false};
        };
      };
      const auto bits = [&](Reproducible tier, int64_t size) {
        return trained(Stage(where), choose(tier), size, 2, 0);
      };
      for (int64_t size : {1, 5, 7})
        CHECK(bits(Reproducible::split, size) == bits(Reproducible::split, 12));
      CHECK(bits(Reproducible::run, 5) != bits(Reproducible::run, 12));
    }
}

TEST_CASE("split and ranks in f16 with a loss scale: the same bits for every micro-batch size") {
  for (Reproducible tier : tiers) {
    const auto bits = [&](int64_t size) {
      CycleOptions options = in(tier);
      options.loss_scale = std::make_shared<LossScale>(LossScaleConfig{.initial = 1024});
      return trained(f16, options, size);
    };
    for (int64_t size : {1, 5, 7}) CHECK(bits(size) == bits(12));
  }
}

TEST_CASE("after 20 steps the weights still have the same bits in split and ranks, not in run") {
  for (Where where : {single, half}) {
    for (Reproducible tier : tiers) {
      const std::string expected = trained(where, in(tier), 12, 20);
      for (int64_t size : {1, 5, 7}) CHECK(trained(where, in(tier), size, 20) == expected);
    }
    CHECK(trained(where, {}, 5, 20) != trained(where, {}, 12, 20));
  }
}

TEST_CASE("split: another seed of the random numbers gives other bits from the same weights") {
  const auto bits = [](int64_t seed) {
    Stage s(single);
    const Stage same(single);
    initialize(s.model, {single.device, single.dtype}, Seed{seed});
    const Parameters from = parameters(same.model), to = parameters(s.model);
    for (size_t i = 0; i < from.size(); ++i) {
      Tensor master = to.list[i]->master;
      launch(master.device(), kernel::Copy{from.list[i]->master.in(), master.out(), Write::set});
      to.list[i]->changed();
    }
    Cycle cycle(to, in(Reproducible::split));
    std::string all;
    const ClosedCycle closed = cycle.run(s.batch, {.samples = 5}, chunked_loss(s.model));
    for (const GradBuffer* buffer : closed.buffers()) all += bits_of(buffer->state("sum"));
    return all;
  };
  CHECK(bits(1) == bits(1));
  CHECK(bits(1) != bits(2));
}

TEST_CASE("the number of threads changes no bit of a step: tiers, accumulators, norm and clip") {
  GptConfig config = with_dropout();
  config.width = 64;
  config.context = 32;
  const std::vector<int64_t> lengths{32, 7, 0, 32};
  const auto bits = [&](Where where, const CycleOptions& options, int threads) {
    const Threads set(threads);
    return trained(
        Stage(where, config, lengths), [&](AdamW&) { return options; }, 3);
  };
  const auto same = [&](Where where, const CycleOptions& options) {
    const std::string expected = bits(where, options, 1);
    bool all = true;
    for (int threads : {2, 5}) all = all && bits(where, options, threads) == expected;
    return all;
  };
  const auto split = [](const std::shared_ptr<const Accumulator>& accumulator) {
    return CycleOptions{.accumulate = {{"*", accumulator}}, .reproducible = Reproducible::split};
  };
  const Device device = cpu_with_fixed_products();
  const Where of_f32{device, DType::f32}, of_bf16{device, DType::bf16};
  for (Where where : {of_f32, of_bf16})
    for (const auto& accumulator : accumulators::all()) {
      CAPTURE(text_of(where));
      CAPTURE(accumulator->name());
      CHECK(same(where, split(accumulator)));
    }
  CHECK(same(of_f32, in(Reproducible::ranks)));
  CHECK(same(of_bf16, in(Reproducible::ranks)));
  CHECK(same(of_f32, {.filter = filters::clip(0.5), .reproducible = Reproducible::split}));
  for (Where where : {of_f32, of_bf16})
    CHECK_FALSE(same(where, split(std::make_shared<ByThreads>())));
}

}  // namespace accrue::test
