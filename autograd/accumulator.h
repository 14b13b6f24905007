// Accumulator: how one GradBuffer adds. A new one is a short file: see kahan.cpp.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "accrue/core/kernels.h"

namespace accrue {

class GradBuffer;

/// What may be asserted over splits of a batch: equal up to the rounding of the sum that the
/// formula bounds, or nothing.
enum class SplitEquality { bounded, none };

struct Accumulator {
  struct State {
    std::string name;
    DType dtype;
  };
  virtual ~Accumulator() = default;
  virtual std::string_view name() const = 0;
  /// True: kernels deposit straight into "sum". False: a micro-batch's gradient is collected first,
  /// then folded once; this costs the bytes of one parameter's gradient at a time.
  virtual bool fused() const = 0;
  virtual SplitEquality split_equality() const { return SplitEquality::bounded; }
  /// Bound of |sum − exact sum| / Σ|deposits| after K deposits (one each micro-batch and use).
  virtual double error_bound(int64_t micro_batches) const = 0;
  /// What lies in the buffer, each of the parameter's shape; "sum" is what the optimizer reads.
  /// `wide` is the dtype of the parameter's master.
  virtual std::vector<State> state(DType wide) const { return {{"sum", wide}}; }
  /// Folded only: adds one micro-batch's gradient. Write::set: the first of the cycle.
  virtual void fold(GradBuffer& buffer, In micro, Write write) const;
};

/// By name pattern; the first match wins; no match: f32.
using Accumulators = std::vector<std::pair<std::string, std::shared_ptr<const Accumulator>>>;

namespace accumulators {

/// Deposits add in f32 (f64 where the master is f64): error ≤ (K−1)·2⁻²⁴ of Σ|g|. 4 bytes a weight.
std::shared_ptr<const Accumulator> f32();
/// Deposits are rounded and add in bf16: error ≤ K·2⁻⁸ of Σ|g|; equal terms stall at 256. To show
/// why not.
std::shared_ptr<const Accumulator> bf16();
/// Carries each addition's rounding error into the next one: error ≤ (2u + O(K·u²)) of Σ|g|, u =
/// 2⁻²⁴. 8 bytes a weight. Source: Kahan, "Further remarks on reducing truncation errors", CACM 8,
/// 1965.
std::shared_ptr<const Accumulator> kahan();
/// By name; throws BadArgument that lists the names.
std::shared_ptr<const Accumulator> named(std::string_view name);
/// "kahan" for all, or pairs "name:pattern" with commas between: "kahan:*.ln_1.*,bf16:*".
Accumulators parse(std::string_view choice);

}  // namespace accumulators
}  // namespace accrue
