// The gradient noise scale: the batch size above which a larger one hardly helps.
#pragma once
#include <optional>

#include "accrue/optim/optimizer.h"

namespace accrue {

/// From the squared norms of mean gradients G₁, G₂ over B₁ < B₂ samples (or tokens: what the losses
/// count), E|G_B|² = |G|² + S/B, where S is the trace of the covariance of one sample's gradient:
///   |G|² ≈ (B₂|G₂|² − B₁|G₁|²)/(B₂ − B₁),   S ≈ (|G₁|² − |G₂|²)/(1/B₁ − 1/B₂).
/// G₁ may be a part of G₂, such as the cycle's first micro-batch: both estimates are linear in the
/// squares, so they stay unbiased. Single estimates are very noisy: each is averaged on its own
/// (exponentially, bias-corrected), and only then divided. A filter that weighs or selects gradients
/// biases both.
/// Source: McCandlish et al., arXiv 1812.06162, appendix A.1.
class NoiseScale {
 public:
  /// `decay` of the averages per update. Throws BadArgument unless it is in [0, 1).
  explicit NoiseScale(double decay = 0.99);

  /// Throws BadArgument unless 0 < count_small < count_large and both squares are finite.
  void update(double squared_small, double count_small, double squared_large, double count_large);

  /// Of one cycle, made with CycleOptions::noise_scale: its first micro-batch (ask the ClosedCycle
  /// before it is stepped) and its whole. Nothing where the cycle had a single micro-batch, was
  /// skipped, or has no norm because its sums were consumed before the step.
  void update(const std::optional<Prefix>& prefix, const StepReport& report);

  /// B_simple = S/|G|², in the unit of the counts. Absent before the first update, and while an
  /// average is not positive: then it is not known yet.
  std::optional<double> value() const;
  /// The averages of |G|² and S; 0 before the first update.
  double squared_gradient() const { return corrected(squared_gradient_); }
  double variance() const { return corrected(variance_); }
  void visit(Visitor& part);

 private:
  double corrected(double average) const { return weight_ > 0 ? average / weight_ : 0; }

  double decay_;
  double squared_gradient_ = 0, variance_ = 0;
  double weight_ = 0;  // 1 − decay^updates
};

}  // namespace accrue
