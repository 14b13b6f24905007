// Optimizers: they read a ClosedCycle's sums once, as const, and normalise while they update.
#pragma once
#include <concepts>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "accrue/autograd/cycle.h"
#include "accrue/optim/schedule.h"

namespace accrue {

struct StepReport {
  Step step;             // done, this one included
  bool skipped;          // the gradient was not finite: nothing changed
  double mean_loss;      // Σ loss / Σ count
  double gradient_norm;  // of the mean gradient, over all parameters, before the clip; NaN where
                         // the sums were consumed before step()
  double learning_rate;  // of the first optimizer
  double count;          // what the sums were divided by: Σ count of the cycle
};

/// Settings of the parameters whose names match; the first match wins.
struct Group {
  std::string pattern;
  std::optional<double> weight_decay = {};  // unset: the optimizer's
  double lr_factor = 1;
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;

  /// One step with this optimizer alone.
  StepReport step(ClosedCycle&& closed);
  /// The optimizer's own numbers, for a checkpoint.
  void visit(Visitor& part);
  const Parameters& parameters() const { return parameters_; }
  double clip() const { return clip_; }
  /// Throws BadArgument where its settings need counts, which shares do not have.
  void check_counts(bool shares) const;
  /// The learning rate of this step. Throws BadArgument unless it is finite and at least 0.
  double rate(Step step) const;
  /// Updates one parameter now: for consumption in backward. sum/divisor is its mean gradient.
  void update_one(size_t parameter, In sum, Step step, CycleIndex cycle, double divisor);

 protected:
  /// What holds for a whole step: the sums times `scale` are the clipped mean gradient.
  struct Update {
    Step step;
    CycleIndex cycle;
    double scale;
    double lr;
    double count;    // of this step: tokens, or samples
    double counted;  // of all this optimizer's steps, this one included
  };
  Optimizer(Parameters parameters, std::vector<Group> groups, double weight_decay, Schedule lr,
            double clip, std::vector<std::string> state_names);

  /// Updates one group's parameters in one kernel. sums[i] belongs to members[i]; absent: zero.
  virtual void update(const Update& update, const Group& group, std::span<const size_t> members,
                      std::span<const In> sums) = 0;
  ParameterState& parameter(size_t i) const { return *parameters_.list[i]; }
  Tensor& state(size_t i, size_t which) { return states_[which][i]; }
  bool has_state() const { return !states_.empty(); }
  bool decays() const;  // any group's weight_decay is not 0
  /// The working copy to refresh in the same pass; absent where operations read the master.
  Out copy_of(size_t i) const;

 private:
  friend StepReport step(ClosedCycle&& closed, std::span<Optimizer* const> optimizers);
  /// sums[i] of parameter i; none: it was updated already.
  void run(const Update& update, std::span<const std::optional<In>> sums);
  virtual void visit_more(Visitor&) {}
  virtual bool needs_counts() const { return false; }

  Parameters parameters_;
  std::vector<Group> groups_;
  std::vector<std::vector<size_t>> members_;  // of each group
  Schedule lr_;
  double clip_;
  std::vector<std::string> state_names_;
  std::vector<std::vector<Tensor>> states_;  // [state][parameter], zero at first
  double counted_ = 0;                       // Σ count of its steps
};

/// One step of several optimizers: finiteness, global norm and clip are decided once, over all
/// parameters; Step advances once. A cycle whose gradient or loss is not finite, or of which all
/// was dropped, is skipped: parameters, optimizers and Step stay as they are. Throws BadArgument
/// unless each of the cycle's parameters is in exactly one optimizer (or frozen), and all name one
/// clip. The cycle is discarded then.
StepReport step(ClosedCycle&& closed, std::span<Optimizer* const> optimizers);

template <std::derived_from<Optimizer>... O>
StepReport step(ClosedCycle&& closed, O&... optimizers) {
  Optimizer* const list[] = {&optimizers...};
  return step(std::move(closed), list);
}

}  // namespace accrue
