// The optimizers, by increasing complexity.
#pragma once
#include "accrue/optim/optimizer.h"

namespace accrue {

struct SgdConfig {
  Schedule lr = 0.01;
  double momentum = 0, weight_decay = 0;
  bool nesterov = false;
  double clip = 0;                 // of the global norm of the mean gradient; 0: none
  std::vector<Group> groups = {};  // settings by name pattern
};
/// g = ḡ + weight_decay·w; u = momentum·u + g; w −= lr·(nesterov ? g + momentum·u : u).
struct Sgd final : Optimizer {
  explicit Sgd(Parameters parameters, SgdConfig config = {});

 private:
  void update(const Update&, const Group&, std::span<const size_t>, std::span<const In>) override;
  double momentum_;
  bool nesterov_;
};

struct AdamConfig {
  Schedule lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0;
  double clip = 0;
  std::vector<Group> groups = {};
  // A moment's half-life in what the losses count (tokens, samples), in place of its β; 0: β per
  // step, however large the step. See half_life() in batch_rules.h.
  double beta1_half_life = 0, beta2_half_life = 0;
};
/// m = β₁m + (1−β₁)g; v = β₂v + (1−β₂)g²; w −= lr·m̂/(√v̂ + ε), with m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ).
/// Adam: g = ḡ + weight_decay·w (arXiv 1412.6980). t counts the cycle's steps, also for parameters
/// that were frozen before. With a half-life h, a step of n counts has β = 2^(−n/h), and βᵗ becomes
/// 2^(−N/h) with N the counts of all steps so far (arXiv 2507.07101).
struct Adam : Optimizer {
  explicit Adam(Parameters parameters, AdamConfig config = {});

  // For consumption into moments (consumption.h).
  /// Throws BadArgument if its settings need whole gradients: a clip, decay within the gradient.
  void allow_folding();
  /// m += (1−β₁)g and v += (1−β₂)·share·g² with g = sum/divisor; the cycle's first fold decays both
  /// before. The step that follows leaves them as they are.
  void fold(const ParameterState& parameter, In sum, double divisor, double share, bool first,
            CycleIndex cycle);

 protected:
  Adam(Parameters parameters, AdamConfig config, bool decoupled);

 private:
  void update(const Update&, const Group&, std::span<const size_t>, std::span<const In>) override;
  void visit_more(Visitor& part) override;
  bool needs_counts() const override { return half_life1_ != 0 || half_life2_ != 0; }
  double beta1_, beta2_, half_life1_, half_life2_, epsilon_;
  bool decoupled_;
  std::vector<int64_t> folded_;  // the cycle that each parameter's moments hold; empty: never
};

using AdamWConfig = AdamConfig;
/// Adam with decoupled decay: g = ḡ, and w −= lr·weight_decay·w before the update (arXiv
/// 1711.05101).
struct AdamW final : Adam {
  explicit AdamW(Parameters parameters, AdamWConfig config = {})
      : Adam(std::move(parameters), std::move(config), true) {}
};

}  // namespace accrue
