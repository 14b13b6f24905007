// A closed cycle: what optimizers read; and what a checkpoint at an edge holds.
#include "accrue/autograd/cycle_state.h"

namespace accrue {

ClosedCycle::~ClosedCycle() {
  if (state_) state_->clear();
}

In ClosedCycle::sum(const Parameter& parameter) const {
  return state_->buffer(*parameter.state()).sum();
}
double ClosedCycle::mean_loss() const { return state_->totals.slice(0, 1).item() / count(); }
double ClosedCycle::count() const {
  const double counted = state_->totals.slice(1, 1).item();
  const int64_t declared = state_->declared;
  require(declared < 0 || *state_->shares || counted == static_cast<double>(declared) ||
              current_mode() != Mode::run,
          "[cycle] expected the declared total of ", declared, ", but the losses counted ",
          counted);
  return counted;
}
MicroStep ClosedCycle::micro_batches() const { return state_->micro; }
Step ClosedCycle::step() const { return state_->step; }
std::vector<const GradBuffer*> ClosedCycle::buffers() const {
  std::vector<const GradBuffer*> result;
  for (const auto& buffer : state_->buffers) result.push_back(buffer.get());
  return result;
}

void ClosedCycle::finish(bool stepped) && {
  if (stepped) ++state_->step.value;
  state_->clear();
  state_.reset();
}

void Cycle::visit(Visitor& part) {
  state_->require_edge("visit");
  int64_t batch = static_cast<int64_t>(state_->batch);
  int64_t shares = state_->shares ? *state_->shares : -1;
  part("step", state_->step.value);
  part("index", state_->index.value);
  part("micro", state_->micro.value);
  part("samples_done", state_->samples_done);
  part("declared", state_->declared);
  part("batch", batch);
  part("shares", shares);
  state_->batch = static_cast<uint64_t>(batch);
  state_->shares.reset();
  if (shares >= 0) state_->shares = shares != 0;
  if (state_->micro.value > 0) part("totals", state_->totals);
  state_->phase = state_->micro.value > 0 ? CycleState::Phase::edge : CycleState::Phase::idle;
  for (const auto& buffer : state_->buffers) part(buffer->parameter(), *buffer);
}

}  // namespace accrue
