// The schedule of cycle operations: all K tapes are recorded on shapes, run up to the first gather,
// then on; backward likewise. Only values that cross a gather are kept; all else is run again.
#include "accrue/autograd/cycle_state.h"

namespace accrue {
namespace {

// One micro-batch's tape, cut where an operation gathers. Segment s is [cut[s], cut[s+1]); a
// gathering operation is the first of its segment.
struct Recorded {
  std::unique_ptr<Tape> tape;
  Loss loss;
  std::vector<int32_t> cut;
  OperationNode& gatherer(size_t segment) const { return (*tape)[cut[segment]]; }
};

std::vector<int32_t> cuts(const Tape& tape) {
  std::vector<int32_t> result{0};
  for (int32_t i = 0; i < tape.size(); ++i)
    if (tape[i].needs_cycle()) result.push_back(i);
  result.push_back(tape.size());
  return result;
}

void gather(const std::vector<Recorded>& all, size_t segment) {
  for (const Recorded& one : all) {
    OperationNode& node = one.gatherer(segment + 1);
    const Range micro_batch(node.device, "micro-batch");
    one.tape->run(one.cut[segment], one.cut[segment + 1], Tape::Keep::crossing);
    const Range range(node.device, [&] { return node.label(); });
    const Input& x = node.inputs()[0];
    node.gather(x.kept ? *x.kept : x.node->input());
  }
}

/// Throws BadArgument unless each micro-batch gathers in the same operations.
void check_same(const std::vector<Recorded>& all) {
  const size_t segments = all[0].cut.size() - 1;
  for (const Recorded& one : all)
    for (size_t s = 1; s < segments; ++s)
      require(one.cut.size() == segments + 1 && one.gatherer(s).name() == all[0].gatherer(s).name(),
              "[run] expected one order of cycle operations, got another; build each loss alike");
}

void check_choices(const CycleState& state) {
  require_order(state.micro.value == 0,
                "[run] expected a whole cycle for its cycle operations, got one "
                "with micro-batches done; try discard()");
  require(!state.options.filter && !state.options.noise_scale,
          "[run] expected no filter and no noise scale with cycle operations, whose micro-batches "
          "are under way at the same time; use them with other models");
  for (const auto& buffer : state.buffers)
    require(!buffer->accumulator().whole_micro(), "[run] expected sums of any parts of gradients ",
            "with cycle operations, whose micro-batches are under way at the same time; got ",
            buffer->accumulator().name(), " for ", buffer->parameter(), "; use f32 or kahan");
}

/// The loss is known: it counts, and its gradient begins.
void begin_backward(CycleState& state, const Loss& loss, int64_t samples) {
  const auto& node = loss.sum().node();
  const Tensor value = node->input();
  state.records.begin(samples);
  state.records.loss(value, loss.count());
  state.add(loss, value);
  if (node->needs_gradient) node->pass(state.cotangent_of(value));
}

}  // namespace

void Cycle::run_whole(std::span<const int64_t> samples, std::span<const Piece> todo,
                      const MicroLoss& loss) {
  check_choices(*state_);
  std::vector<Recorded> all;
  state_->records.clear();
  try {
    for (const auto& [first, count] : todo) {
      auto tape = state_->tape(Tape::Run::later, samples.subspan(first, count));
      const TapeScope scope(tape.get());
      Loss recorded = loss(first, count);
      require(recorded.sum().node() && recorded.sum().node()->index >= 0,
              "[run] expected a loss made of parameters, got a constant; compute it by the model");
      static_cast<OperationNode&>(*recorded.sum().node()).last_use = tape->size();
      auto cut = cuts(*tape);
      all.push_back({std::move(tape), std::move(recorded), std::move(cut)});
    }
  } catch (...) {
    for (const auto& buffer : state_->buffers) buffer->settle();  // nothing will be deposited
    throw;
  }
  check_same(all);

  const size_t segments = all[0].cut.size() - 1;
  state_->phase = CycleState::Phase::broken;  // until all deposits are in
  for (size_t s = 0; s + 1 < segments; ++s) gather(all, s);
  for (size_t s = segments; s-- > 0;) {
    for (const Recorded& one : all) {
      const Range micro_batch(state_->device, "micro-batch");
      one.tape->run(one.cut[s], one.cut[s + 1], Tape::Keep::saved);
      if (s + 1 == segments) begin_backward(*state_, one.loss, one.tape->sample_count());
      const Range backward(state_->device, "backward");
      one.tape->pull(one.cut[s] + (s > 0 ? 1 : 0), one.cut[s + 1], Graph::release);
      if (s > 0 && one.gatherer(s).slot)
        one.gatherer(s).gather_backward(one.gatherer(s).saved, one.gatherer(s).slot);
      for (const auto& buffer : state_->buffers) buffer->fold();
    }
    if (s == 0) continue;
    for (const Recorded& one : all) {
      const Range micro_batch(state_->device, "micro-batch");
      const Range backward(state_->device, "backward");
      one.tape->pull(one.cut[s], one.cut[s] + 1, Graph::release);
      for (const auto& buffer : state_->buffers) buffer->fold();
    }
  }
  for (const Recorded& one : all) state_->end_micro_batch(one.tape->sample_count());
  if (state_->options.at_edge) state_->options.at_edge(state_->micro);
}

}  // namespace accrue
