// One small run, the same on every device: its bits must not depend on which.
#pragma once
#include <functional>

#include "accrue/nn/checkpoint.h"
#include "remote/device.h"
#include "support.h"

namespace accrue::test {

/// Everything that a choice of accumulation may need.
struct Choice {
  std::string name;
  std::function<CycleOptions(AdamW&)> options;
  DType dtype = DType::f32;
  double clip = 0;  // of the optimizer
};

struct Training {
  Gpt model;
  AdamW optimizer;
  Cycle cycle;
  TokenLoader loader;
  Ema ema;

  static GptConfig config() {
    GptConfig config = tiny_gpt();
    config.dropout = 0.2;
    config.recompute = Recompute::block;
    return config;
  }
  static Gpt made(Device device, DType dtype) {
    Gpt model(config());
    initialize(model, {device, dtype}, Seed{1});
    return model;
  }
  static Tokens tokens() {
    std::vector<int32_t> ids;
    for (int32_t i = 0; i < 300; ++i) ids.push_back((i * i + i / 7) % 11);
    return {ids, 11};
  }

  Training(Device device, const Choice& choice)
      : model(made(device, choice.dtype)),
        optimizer(parameters(model), {.lr = 1e-2, .clip = choice.clip}),
        cycle(parameters(model), choice.options(optimizer)),
        loader(tokens(), {.context = 6, .batch = 5, .seed = Seed{3}, .device = device}),
        ema(parameters(model)) {}

  Loss loss(const TokenBatch& micro) const { return chunked_loss(model)(micro); }
  StepReport step() {
    const TokenBatch batch = loader.peek();
    auto closed =
        cycle.run(batch, {.samples = 2}, [&](const TokenBatch& micro) { return loss(micro); });
    const StepReport report = optimizer.step(std::move(closed));
    loader.skip();
    ema.update(report);
    return report;
  }
  /// The first micro-batches of a cycle.
  void begin_cycle(int64_t micros) {
    const std::vector<TokenBatch> all = cycle.split(loader.peek(), {.samples = 2});
    for (int64_t i = 0; i < micros; ++i) {
      MicroScope scope = cycle.begin(all[i]);
      scope.backward(loss(all[i]));
    }
  }
  /// Weights, moments, averages, position: all that must agree.
  std::string bits() {
    return weight_bits(parameters(model)) + state_bits(optimizer) + state_bits(ema) +
           state_bits(loader);
  }
  template <class C>
  void parts(C& checkpoint) {
    checkpoint.part("model", model).part("optimizer", optimizer).part("cycle", cycle);
    checkpoint.part("loader", loader).part("ema", ema);
  }
};

/// Every accumulator, tier, filter, consumption and number format.
inline std::vector<Choice> choices() {
  std::vector<Choice> all;
  const auto add = [&](std::string name, std::function<CycleOptions(AdamW&)> options,
                       DType dtype = DType::f32, double clip = 0) {
    all.push_back({std::move(name), std::move(options), dtype, clip});
  };
  for (const auto& one : accumulators::all())
    add(std::string(one->name()), [one](AdamW&) {
      return CycleOptions{.accumulate = {{"*", one}}};
    });
  for (const auto& one : {filters::clip(0.5), filters::agreement(0.9), filters::drop_non_finite(),
                          filters::observe()})
    add(one->name().substr(0, one->name().find(':')),
        [one](AdamW&) { return CycleOptions{.filter = one}; });
  for (const auto tier : {Reproducible::split, Reproducible::ranks})
    add(tier == Reproducible::split ? "tier split" : "tier ranks",
        [tier](AdamW&) { return CycleOptions{.reproducible = tier}; });
  add("noise scale", [](AdamW&) { return CycleOptions{.noise_scale = true}; });
  add("in backward", [](AdamW& adam) {
    return CycleOptions{.consume = in_backward({&adam}), .skip_non_finite = false};
  });
  add("into moments", [](AdamW& adam) {
    return CycleOptions{.accumulate = {{"*", into_moments(adam)}}, .skip_non_finite = false};
  });
  const auto plain = [](AdamW&) { return CycleOptions{}; };
  add("clip by the global norm", plain, DType::f32, 0.5);
  add("f64", plain, DType::f64);
  add("bf16", plain, DType::bf16, 1);
  add(
      "f16 with a loss scale",
      [](AdamW&) { return CycleOptions{.loss_scale = std::make_shared<LossScale>()}; }, DType::f16);
  return all;
}

inline const Choice& kahan() {
  static const Choice choice{
      "kahan", [](AdamW&) { return CycleOptions{.accumulate = accumulators::parse("kahan")}; }};
  return choice;
}

}  // namespace accrue::test
