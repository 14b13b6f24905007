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
  int64_t samples;

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
    one.tape->run(one.cut[segment], one.cut[segment + 1], Tape::Keep::crossing);
    OperationNode& node = one.gatherer(segment + 1);
    const Input& x = node.inputs()[0];
    node.gather(x.kept ? *x.kept : x.node->input());
  }
}

}  // namespace

void Cycle::run_whole(std::span<const int64_t> samples, std::span<const Piece> todo,
                      const Closure& loss) {
  require_order(state_->micro.value == 0,
                "[run] expected a whole cycle for its cycle operations, got one "
                "with micro-batches done; try discard()");
  const CycleOptions& options = state_->options;
  require(!options.filter && !options.noise_scale,
          "[run] expected no filter and no noise scale with cycle operations, whose micro-batches "
          "are under way at the same time; use them with other models");
  for (const auto& buffer : state_->buffers)
    require(!buffer->accumulator().whole_micro(), "[run] expected sums of any parts of gradients ",
            "with cycle operations, whose micro-batches are under way at the same time; got ",
            buffer->accumulator().name(), " for ", buffer->parameter(), "; use f32 or kahan");
  std::vector<Recorded> all;
  state_->records.clear();
  try {
    for (const auto& [first, count] : todo) {
      auto tape = state_->tape(Tape::Run::later, samples.subspan(first, count));
      const TapeScope scope(tape.get());
      Loss recorded = loss(first, count);
      require(recorded.sum().node() && recorded.sum().node()->index >= 0,
              "[run] expected a loss made by operations on parameters, got a constant");
      static_cast<OperationNode&>(*recorded.sum().node()).last_use = tape->size();
      auto cut = cuts(*tape);
      all.push_back({std::move(tape), std::move(recorded), std::move(cut), count});
    }
  } catch (...) {
    for (const auto& buffer : state_->buffers) buffer->settle();  // nothing will be deposited
    throw;
  }
  const size_t segments = all[0].cut.size() - 1;
  for (const Recorded& one : all)
    for (size_t s = 1; s < segments; ++s)
      require(one.cut.size() == segments + 1 && one.gatherer(s).name() == all[0].gatherer(s).name(),
              "[run] expected the same cycle operations in every micro-batch, got different ones");

  state_->phase = CycleState::Phase::broken;  // until all deposits are in
  for (size_t s = 0; s + 1 < segments; ++s) gather(all, s);
  for (size_t s = segments; s-- > 0;) {
    const auto first_rule = [&](const Recorded& one) { return one.cut[s] + (s > 0 ? 1 : 0); };
    for (const Recorded& one : all) {
      one.tape->run(one.cut[s], one.cut[s + 1], Tape::Keep::saved);
      if (s + 1 == segments) {
        const Tensor value = one.loss.sum().node()->input();
        state_->records.begin(one.samples);
        state_->records.loss(value, one.loss.count());
        state_->add(one.loss, value);
        if (one.loss.sum().node()->needs_gradient)
          one.loss.sum().node()->pass(
              Tensor::scalar(state_->loss_scale(), value.dtype(), value.device()));
        ++state_->micro.value;
      }
      one.tape->pull(first_rule(one), one.cut[s + 1], Graph::release);
      if (s > 0 && one.gatherer(s).slot)
        one.gatherer(s).gather_backward(one.gatherer(s).saved, one.gatherer(s).slot);
      for (const auto& buffer : state_->buffers) buffer->fold();
    }
    if (s == 0) continue;
    for (const Recorded& one : all) {
      one.tape->pull(one.cut[s], one.cut[s] + 1, Graph::release);
      for (const auto& buffer : state_->buffers) buffer->fold();
    }
  }
  state_->micro = {};
  for (const Recorded& one : all) state_->end_micro_batch(one.samples);
  if (state_->options.at_edge) state_->options.at_edge(state_->micro);
}

}  // namespace accrue
