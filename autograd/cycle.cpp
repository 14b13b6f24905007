#include "accrue/autograd/cycle.h"

#include "accrue/autograd/cycle_state.h"

namespace accrue {
namespace {

using Phase = CycleState::Phase;

}  // namespace

void CycleState::add(const Loss& loss, const Tensor& value) {
  require(shares.value_or(loss.is_share()) == loss.is_share(),
          "[cycle] expected one denominator per "
          "cycle, got counted losses and shares; use one kind of Loss for all its micro-batches");
  shares = loss.is_share();
  const Write write = micro.value == 0 ? Write::set : Write::add;
  launch(device, kernel::Copy{value.in(), totals.slice(0, 1).out(), write});
  if (loss.is_share())
    launch(device, kernel::Fill{totals.slice(1, 1).out(), 1});
  else
    launch(device, kernel::Copy{loss.count().in(), totals.slice(1, 1).out(), write});
}

void CycleState::end_micro_batch(int64_t samples) {
  for (const auto& buffer : buffers) buffer->settle();
  ++micro.value;
  samples_done += samples;
  phase = Phase::edge;
}

void CycleState::clear() {
  for (const auto& buffer : buffers) buffer->clear();
  shares.reset();
  declared = -1;
  micro = {};
  samples_done = 0;
  phase = Phase::idle;
}

// ---- one micro-batch

MicroScope::MicroScope(std::shared_ptr<CycleState> state, std::span<const int64_t> samples)
    : state_(std::move(state)),
      tape_(state_->tape(Tape::Run::at_once, samples)),
      scope_(tape_.get()) {
  state_->require_edge("begin");
  require(!samples.empty(), "[begin] expected a micro-batch with samples, got an empty one");
  state_->phase = Phase::inside;
  ticket_ = ++state_->scopes;
}

bool MicroScope::current() const {
  return state_->phase == Phase::inside && state_->scopes == ticket_;
}

MicroScope::~MicroScope() {
  if (!current()) return;
  // Left before backward: nothing was deposited, the cycle is where it was.
  for (const auto& buffer : state_->buffers) buffer->settle();
  state_->phase = state_->micro.value > 0 ? Phase::edge : Phase::idle;
}

void MicroScope::backward(const Loss& loss) {
  require_order(current(),
                "[backward] expected one call in a micro-batch, got "
                "another; begin the next micro-batch");
  const Tensor& value = loss.sum().value();
  const Tensor one = Tensor::scalar(1, value.dtype(), value.device());
  state_->phase = Phase::broken;  // until all deposits are in
  state_->add(loss, value);
  tape_->backward(loss.sum(), one);
  state_->end_micro_batch(tape_->sample_count());
}

// ---- the cycle

Cycle::Cycle(Parameters parameters, CycleOptions options) : state_(std::make_shared<CycleState>()) {
  state_->options = std::move(options);
  for (const auto& [pattern, choice] : state_->options.accumulate)
    require(!parameters.matching(pattern).list.empty(),
            "[cycle] expected a pattern that matches a "
            "parameter's name for ",
            choice->name(), ", got ", pattern, "; try *");
  for (const auto& parameter : parameters.list) {
    auto accumulator = accumulators::f32();
    for (const auto& [pattern, choice] : state_->options.accumulate)
      if (matches(parameter->name, pattern)) {
        accumulator = choice;
        break;
      }
    auto buffer = std::make_unique<GradBuffer>(parameter, accumulator);
    require(state_->buffer_of.emplace(parameter.get(), buffer.get()).second,
            "[cycle] expected each parameter once, got ", parameter->name, " twice");
    state_->buffers.push_back(std::move(buffer));
  }
  require(!state_->buffers.empty(), "[cycle] expected at least one parameter, got none");
  state_->device = parameters.list[0]->master.device();
  const TagScope tag(Tag::gradients);
  state_->totals = Tensor({2}, DType::f64, state_->device);
}

void Cycle::declare_total(int64_t count) {
  require(count > 0, "[cycle] expected a declared total of at least 1, got ", count);
  state_->declared = count;
}

std::vector<Cycle::Piece> Cycle::pieces(std::span<const int64_t> samples, MicroSize size) {
  const auto n = static_cast<int64_t>(samples.size());
  require(n > 0, "[cycle] expected a batch with samples, got an empty one");
  require(size.samples > 0, "[cycle] expected micro-batches of at least one sample, got ",
          size.samples);
  state_->require_edge("run");
  const uint64_t batch = hash_samples(samples);
  require_order(state_->phase == Phase::idle || state_->batch == batch,
                "[run] expected the batch whose cycle is under way (", state_->samples_done,
                " samples done), got another; try discard()");
  state_->batch = batch;
  std::vector<Piece> result;
  for (int64_t first = state_->samples_done; first < n; first += size.samples)
    result.push_back({first, std::min(size.samples, n - first)});
  return result;
}

ClosedCycle Cycle::run(std::span<const int64_t> samples, std::span<const Piece> todo,
                       const Closure& loss) {
  if (todo.empty()) return close();  // stopped at the last edge
  if (!state_->whole) {
    try {
      run_one_by_one(samples, todo, loss);
      return close();
    } catch (const NeedsClosure&) {
      if (state_->micro.value > 0) throw;
      state_->whole = true;  // thrown before any deposit: nothing to undo
    }
  }
  run_whole(samples, todo, loss);
  return close();
}

void Cycle::run_one_by_one(std::span<const int64_t> samples, std::span<const Piece> todo,
                           const Closure& loss) {
  for (const auto& [first, count] : todo) {
    {
      MicroScope scope(state_, samples.subspan(first, count));
      scope.backward(loss(first, count));
    }
    if (state_->options.at_edge) state_->options.at_edge(state_->micro);
  }
}

ClosedCycle Cycle::close() {
  require_order(state_->phase == Phase::edge,
                "[close] expected a cycle between two micro-batches, got "
                "one that is ",
                phase_name(state_->phase), state_->phase == Phase::broken ? "; try discard()" : "");
  for (const auto& buffer : state_->buffers) buffer->close();
  state_->phase = Phase::closed;
  ++state_->index.value;
  return ClosedCycle(state_);
}

void Cycle::discard() {
  require_order(state_->phase != Phase::closed,
                "[discard] expected a cycle under way, got a closed one; "
                "drop its ClosedCycle");
  state_->clear();
}

Step Cycle::step() const { return state_->step; }
CycleIndex Cycle::index() const { return state_->index; }
MicroStep Cycle::micro_batches() const { return state_->micro; }

}  // namespace accrue
