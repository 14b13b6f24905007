// A closed cycle: what optimizers read.
#pragma once
#include <memory>
#include <vector>

#include "accrue/autograd/cycle_options.h"

namespace accrue {

struct CycleState;

/// A finished cycle, to be stepped once. Dropped unstepped it is discarded, the model untouched.
/// Once stepped or moved from, every call throws BadOrder.
class [[nodiscard]] ClosedCycle {
 public:
  ClosedCycle(ClosedCycle&&) noexcept = default;
  ClosedCycle& operator=(ClosedCycle&&) = delete;
  ~ClosedCycle();

  /// The raw sum of a parameter's gradient; absent where nothing was deposited: exactly zero.
  /// Throws BadArgument if the parameter is not in the cycle.
  In sum(const Parameter& parameter) const;
  /// Σ loss / Σ count. Synchronises.
  double mean_loss() const;
  /// Σ count over the cycle (1 for shares; 0 if all was dropped). Synchronises.
  double count() const;
  bool is_of_shares() const;
  /// The sums over this are the mean gradient: count() times the loss scale. Synchronises.
  double divisor() const;
  /// Of the first of several micro-batches that count, where CycleOptions::noise_scale asked for
  /// it. None of shares, which have no count.
  std::optional<Prefix> prefix() const;
  std::vector<MicroRecord> records() const;
  bool skips_non_finite() const;
  MicroStep micro_batches() const;
  Step step() const;
  CycleIndex index() const;
  /// To look at: a closed cycle's buffers are const.
  std::vector<const GradBuffer*> buffers() const;

  /// For optimizers: ends the cycle. `stepped`: parameters were updated, Step advances.
  void finish(bool stepped) &&;

 private:
  friend class Cycle;
  explicit ClosedCycle(std::shared_ptr<CycleState> state) : state_(std::move(state)) {}
  CycleState& state() const;
  std::shared_ptr<CycleState> state_;
};

}  // namespace accrue
