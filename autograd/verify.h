// verify_cycle(): how far a cycle's sums are from those of the same tapes in f64.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "accrue/autograd/cycle.h"

namespace accrue {

/// One parameter's raw sum A against A₆₄, the loss scale divided out of both.
struct ParameterError {
  std::string name, accumulator;
  double relative;   // ‖A − A₆₄‖ / ‖A₆₄‖; 0 where both are zero
  double largest;    // max |A − A₆₄| over the elements
  double norm;       // ‖A₆₄‖
  int64_t deposits;  // at least one for each micro-batch and use
  /// What accumulation alone may add to `relative`: the accumulator's
  /// error_bound()·‖Σ|deposit|‖ / ‖A₆₄‖; where it folds, with a rounding of each deposit after a
  /// micro-batch's first. What computes a deposit is not in it.
  double bound;
  /// Where VerifyOptions::rules asked for it: |D − ⟨A₆₄, d⟩| / max(|D|, |⟨A₆₄, d⟩|), beyond D's own
  /// rounding, with D the central difference of the loss in f64 along a random direction d of this
  /// parameter. A right rule: about 1e-8; one that forgets a factor c: |1 − c|.
  std::optional<double> rule;
};

struct Verification {
  std::vector<ParameterError> parameters;  // in the cycle's order
  double loss, exact_loss;                 // Σ loss / Σ count: of the cycle, and in f64
  double count;
  int64_t operations;                      // on the longest tape
  std::vector<MicroRecord> micro_batches;  // of the cycle; factor 0: its filter dropped it
};

struct VerifyOptions {
  bool rules = false;  // check every backward rule by differences: two more losses a parameter
  std::function<void(double)> progress = {};  // told the part that is done, in [0, 1], often
  Device device = Device::reference();        // where the replay runs: on the host, in f64
};

namespace detail {
Verification verify_cycle(const Cycle& cycle, std::span<const int64_t> samples, MicroSize size,
                          int64_t declared, std::function<Loss(int64_t, int64_t)> loss,
                          const VerifyOptions& options);
}  // namespace detail

/// Runs a cycle twice, without stepping: as `cycle` would (its accumulators, filter, tier, dtype
/// and index), on buffers of its own; and once more in f64 on `reference`, the same micro-batches,
/// operations and random numbers, with plain f64 sums. Model, optimizer and cycle are untouched.
///
/// The replay reads the numbers that the operations read: working copies (rounded to bf16 where
/// the model computes in it), constants, the filter's factors. So errors are those of arithmetic
/// and accumulation, not of storage. Numbers that the closure takes out of a Var (value(),
/// detach()) are constants, computed in the model's dtype. Both runs share the rules of the
/// operations: a rule that is wrong in both is found by VerifyOptions::rules alone. State that an
/// operation over the whole cycle keeps must begin anew where the closure records it. Tensors that
/// an operation keeps beside its inputs (ids, targets) must follow them: Tensor::to(device).
///
/// Takes 32 bytes a weight beside the cycle's own, and one micro-batch's activations in f64.
/// Synchronises. Throws BadOrder unless the cycle is idle, and in a dry run; BadArgument where a
/// cycle cannot be run without changing an optimizer (into_moments).
template <Batch B, LossOf<B> F>
Verification verify_cycle(const Cycle& cycle, const B& all, MicroSize size, F loss,
                          const VerifyOptions& options = {}) {
  int64_t declared = -1;
  if constexpr (requires { all.count(); }) declared = static_cast<int64_t>(all.count());
  return detail::verify_cycle(
      cycle, all.samples(), size, declared,
      [&](int64_t first, int64_t count) { return loss(all.slice(first, count)); }, options);
}

}  // namespace accrue
