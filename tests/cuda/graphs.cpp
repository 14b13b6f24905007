// Graphs and batches made ahead on a GPU: the same bits as without. Skipped where there is none.
#include "cuda/device.h"
#include "remote/training.h"

namespace accrue::test {
namespace {

constexpr int steps = 6;  // the second cycle makes the graphs, later ones replay them

struct Run {
  std::string bits;
  std::vector<double> losses;
  GraphUse use;
};

Run run(const Choice& choice, bool graphs) {
  Training training(Device::cuda(), {choice.name,
                                     [&](AdamW& adam) {
                                       CycleOptions options = choice.options(adam);
                                       options.graphs = graphs;
                                       return options;
                                     },
                                     choice.dtype, choice.clip});
  Run result;
  for (int i = 0; i < steps; ++i) {
    result.losses.push_back(training.step().mean_loss);
    for (const MicroRecord& one : training.cycle.records()) result.losses.push_back(one.loss);
  }
  result.bits = training.bits();
  result.use = training.cycle.graphs();
  return result;
}

}  // namespace

TEST_CASE("cuda: replayed micro-batches have the bits of launched ones, dropout included" *
          doctest::test_suite("device")) {
  if (without_device()) return;
  int64_t replayed = 0;
  for (const Choice& choice : choices()) {
    if (choice.dtype == DType::f64) continue;
    INFO(choice.name);
    const Run with = run(choice, true), without = run(choice, false);
    CHECK_MESSAGE(with.bits == without.bits, with.use.why_eager);
    CHECK(with.losses == without.losses);
    if (choice.name == "f32" || choice.name == "bf16")
      CHECK_MESSAGE(with.use.replayed > 0, with.use.why_eager);
    replayed += with.use.replayed;
  }
  CHECK(replayed > 0);
}

TEST_CASE("cuda: the loader's batches come from a stream of their own, whole" *
          doctest::test_suite("device")) {
  if (without_device()) return;
  const auto loader_on = [](Device device) {
    return TokenLoader(Training::tokens(),
                       {.context = 6, .batch = 33, .seed = Seed{3}, .device = device});
  };
  TokenLoader there = loader_on(Device::cuda()), here = loader_on(Device::reference());
  for (int i = 0; i < 50; ++i) {
    const TokenBatch a = there.next(), b = here.next();
    CHECK(bits_of(a.tokens) == bits_of(b.tokens));
    CHECK(bits_of(a.targets) == bits_of(b.targets));
    CHECK(a.indices == b.indices);
  }
}

}  // namespace accrue::test
