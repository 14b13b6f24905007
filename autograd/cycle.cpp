#include "accrue/autograd/cycle.h"

#include "accrue/autograd/cycle_state.h"

namespace accrue {

using Phase = CycleState::Phase;

void CycleState::deposit(Tape& tape, const Loss& loss) {
  const Tensor& value = loss.sum().value();
  records.loss(value, loss.count());
  const Filter* filter = options.filter.get();
  if (filter && !filter->admit(value)) return records.dropped();
  if (!filter) add(loss, value);
  tape.backward(loss.sum(), cotangent_of(value));
  if (!filter) return;
  const MicroGrads gradients(buffers, loss_scale());
  const double factor = filter->judge(gradients);
  records.judged(factor, gradients);
  if (factor != 0) add(loss, value);
  if (factor == 0 && options.loss_scale && std::isfinite(value.item()))
    overflowed += !std::isfinite(gradients.norm());
  for (const auto& buffer : buffers) buffer->weigh(factor);
}

void CycleState::end_micro_batch(int64_t samples) {
  for (const auto& buffer : buffers) buffer->settle();
  // Until a second one counts: the first may have been dropped.
  if (options.noise_scale && counted == 1) measure_prefix();
  ++micro.value;
  samples_done += samples;
  phase = Phase::edge;
}

// ---- one micro-batch

MicroScope::MicroScope(std::shared_ptr<CycleState> state, std::span<const int64_t> samples)
    : state_(std::move(state)),
      tape_(state_->tape(Tape::Run::at_once, samples)),
      scope_(tape_.get()) {
  state_->require_edge("begin");
  require(!samples.empty(), "[begin] expected a micro-batch with samples, got none; leave it out");
  state_->begin_micro_batch(static_cast<int64_t>(samples.size()));
  ticket_ = ++state_->scopes;
}

bool MicroScope::current() const {
  return state_->phase == Phase::inside && state_->scopes == ticket_;
}

MicroScope::~MicroScope() {
  if (!current()) return;
  // Left before backward: nothing was deposited, the cycle is where it was.
  for (const auto& buffer : state_->buffers) buffer->settle();
  state_->records.forget();
  state_->phase = state_->micro.value > 0 ? Phase::edge : Phase::idle;
}

void MicroScope::backward(const Loss& loss) {
  require_order(
      current(),
      "[backward] expected one call in a micro-batch, got another; begin the next micro-batch");
  state_->phase = Phase::broken;  // until all deposits are in
  state_->deposit(*tape_, loss);
  state_->records.end();
  state_->end_micro_batch(tape_->sample_count());
}

// ---- the cycle

Cycle::Cycle(Parameters parameters, CycleOptions options)
    : state_(std::make_shared<CycleState>(parameters, std::move(options))) {}

ClosedCycle Cycle::run(std::span<const int64_t> samples, MicroSize size, int64_t declared,
                       const MicroLoss& loss) {
  const Range range(state_->device, "cycle");
  // Sums that could not hold what was added go through the same micro-batches again, once.
  for (bool again = false;; again = true) {
    const std::vector<Piece> todo = pieces(samples, size, declared);
    if (!todo.empty()) run(samples, todo, loss);    // empty: stopped at the last edge
    if (again || state_->finish()) return close();  // which throws where they still cannot
    state_->clear();
  }
}

void Cycle::run(std::span<const int64_t> samples, std::span<const Piece> todo,
                const MicroLoss& loss) {
  if (!state_->whole) {
    try {
      return run_one_by_one(samples, todo, loss);
    } catch (const NeedsClosure&) {
      if (state_->micro.value > 0) throw;
      state_->whole = true;  // thrown before any deposit: nothing to undo
    }
  }
  run_whole(samples, todo, loss);
}

void Cycle::run_one_by_one(std::span<const int64_t> samples, std::span<const Piece> todo,
                           const MicroLoss& loss) {
  for (const auto& [first, count] : todo) {
    const auto micro = samples.subspan(first, count);
    const Range range(state_->device, "micro-batch");
    if (!state_->graphs.run(*state_, micro, first, loss)) {
      MicroScope scope(state_, micro);
      scope.backward(loss(first, count));
    }
    if (state_->options.at_edge) state_->options.at_edge(state_->micro);
  }
}

ClosedCycle Cycle::close() {
  require_order(state_->phase == Phase::edge,
                "[close] expected a cycle between two micro-batches, got one that is ",
                phase_name(state_->phase), state_->phase == Phase::broken ? "; try discard()" : "");
  if (!state_->finish()) {
    state_->clear();
    throw Failure(
        "[close] expected sums within the range of their units, got an overflow or units too "
        "coarse; the cycle is idle again and has learned another range: run the same micro-batches "
        "once more (as run() has done: its closure's losses are others in the second pass)");
  }
  for (const auto& buffer : state_->buffers) buffer->close();
  state_->phase = Phase::closed;
  ++state_->index.value;
  return ClosedCycle(state_);
}

void Cycle::discard() {
  require_order(state_->phase != Phase::closed,
                "[discard] expected a cycle under way, got a closed one; drop its ClosedCycle");
  state_->clear();
}

Step Cycle::step() const { return state_->step; }
CycleIndex Cycle::index() const { return state_->index; }
MicroStep Cycle::micro_batches() const { return state_->micro; }

}  // namespace accrue
