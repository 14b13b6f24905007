// Filter: weighs or drops a micro-batch's whole gradient before it is folded.
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "accrue/autograd/grad_buffer.h"

namespace accrue {

/// The gradients of one micro-batch, unnormalised, over all parameters of the cycle. Each figure is
/// computed when it is first asked for, and synchronises.
class MicroGrads {
 public:
  MicroGrads(std::span<const std::shared_ptr<GradBuffer>> buffers, double loss_scale)
      : buffers_(buffers), loss_scale_(loss_scale) {}
  /// ‖g_k‖; infinite or NaN where an element is.
  double norm() const;
  /// cos(A, g_k) with the sums A so far; none before the first deposit, or where an accumulator has
  /// no sum before the cycle's end; 0 where either is zero, NaN where a length is not finite.
  std::optional<double> cosine() const;

 private:
  std::span<const std::shared_ptr<GradBuffer>> buffers_;
  double loss_scale_;
  mutable std::optional<double> norm_, cosine_;
};

/// Sees each micro-batch's gradient, all parameters together, before any of it is folded. This
/// costs the bytes of all gradients, and for the records their norm and cosine.
struct Filter {
  virtual ~Filter() = default;
  /// With what it was told, so that a checkpoint knows it again: "clip:1.5".
  virtual std::string name() const = 0;
  /// Of micro-batches in another split, where all are kept.
  virtual SplitEquality split_equality() const { return SplitEquality::bounded; }
  /// False drops the micro-batch before its backward. `loss` [1] is its sum.
  virtual bool admit(const Tensor&) const { return true; }
  /// A factor for the micro-batch's gradient; 0 drops it together with its loss and count.
  virtual double judge(const MicroGrads& gradients) const = 0;
  /// judge() reads the sums so far.
  virtual bool reads_sums() const { return false; }
  /// Micro-batches may be dropped: totals declared beforehand do not hold then.
  virtual bool may_drop() const { return true; }
};

namespace filters {

// Clip and agreement keep a gradient that is not finite as it is: the cycle is skipped then.
/// min(1, limit/‖g_k‖): no micro-batch weighs more than `limit`. Results depend on the split.
std::shared_ptr<const Filter> clip(double limit);
/// Drops a micro-batch if 1 − cos(sums so far, g_k) > τ; the first one is kept. τ in [0, 2]: 2
/// keeps all. Results depend on the order. Source: Chaubard et al., arXiv 2412.18052.
std::shared_ptr<const Filter> agreement(double tau);
/// Drops a micro-batch whose loss (before its backward) or gradient is not finite.
std::shared_ptr<const Filter> drop_non_finite();
/// Keeps all: for the norm and, where sums run, cosine in Cycle::records().
std::shared_ptr<const Filter> observe();
/// "clip:1.5", "agreement:0.9", "drop-non-finite", "observe". Throws BadArgument that lists them.
std::shared_ptr<const Filter> parse(std::string_view choice);

}  // namespace filters
}  // namespace accrue
