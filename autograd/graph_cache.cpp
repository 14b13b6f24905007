#include "accrue/autograd/graph_cache.h"

#include "accrue/autograd/cycle_state.h"

namespace accrue {
namespace {

constexpr size_t most_kinds = 64;  // each keeps its inputs; shapes that never end make no sense
constexpr int most_attempts = 3;   // one may find too few free blocks

std::vector<bool> touched(const CycleState& state) {
  std::vector<bool> all;
  for (const auto& buffer : state.buffers) all.push_back(buffer->touched());
  return all;
}

void leave(CycleState& state, const std::vector<bool>& touched) {
  for (size_t i = 0; i < touched.size(); ++i) state.buffers[i]->leave(touched[i]);
}

/// Why this micro-batch cannot be part of any graph; empty: it can.
std::string reason_against(const CycleState& state, int64_t count, const MicroLoss& loss) {
  const CycleOptions& options = state.options;
  if (!state.device.backend->graphs) return text("the backend ", state.device, " has no graphs");
  if (current_mode() != Mode::run) return "a dry run";
  if (options.filter) return text("the filter ", options.filter->name(), " reads on the host");
  for (const auto& buffer : state.buffers)
    if (!buffer->accumulator().replays())
      return text("folds of ", buffer->accumulator().name(), " (", buffer->parameter(),
                  ") differ from one micro-batch to the next");
  if (options.consume && state.samples_done + count == state.batch_size)
    return text("the last micro-batch of ", options.consume->name(),
                " updates parameters with its step's numbers");
  if (!loss.micro) return "the batch does not list its tensors: void visit(Visitor&)";
  return {};
}

/// What all micro-batches of a kind have in common.
std::string key_of(const CycleState& state, int64_t count, std::span<const Tensor> inputs,
                   const void* closure) {
  std::string key = text(closure, ' ', count);
  for (const Tensor& one : inputs) key += text(' ', one.dtype(), one.shape());
  for (const auto& buffer : state.buffers) {
    ParameterState& parameter = *buffer->parameter_state();
    const void* place = parameter.working().in().data;  // fresh from here on
    key.append(reinterpret_cast<const char*>(&place), sizeof place);
    key += static_cast<char>(buffer->touched() | parameter.frozen << 1);
  }
  return key;
}

void replay(CycleState& state, std::span<const int64_t> samples, std::span<const Tensor> inputs,
            GraphCache::Kind& kind) {
  const auto count = static_cast<int64_t>(samples.size());
  state.require_edge("begin");
  state.begin_micro_batch(count);
  state.phase = CycleState::Phase::broken;  // until all deposits are in
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i])
      launch(state.device, kernel::Copy{inputs[i].in(), kind.inputs[i].out(), Write::set});
  std::vector<int64_t> keys(samples.begin(), samples.end());
  keys.push_back(state.index.value);
  kind.keys.copy_from_host(keys.data());
  const Tensor& value = kind.loss->sum().value();
  state.cotangent_of(value);
  state.device.backend->graphs->replay(kind.graph.get());
  leave(state, kind.touched);
  state.records.loss(value, kind.loss->count(), kind.bytes);
  state.add(*kind.loss, value);
  state.records.end();
  state.end_micro_batch(count);
}

}  // namespace

bool GraphCache::run(CycleState& state, std::span<const int64_t> samples, int64_t first,
                     const MicroLoss& loss) {
  if (!state.options.graphs) return false;
  const auto eagerly = [this](std::string why) {
    use_.why_eager = std::move(why);
    ++use_.eager;
    return false;
  };
  const auto count = static_cast<int64_t>(samples.size());
  if (std::string why = reason_against(state, count, loss); !why.empty())
    return eagerly(std::move(why));
  const MicroLoss::Micro micro = loss.micro(first, count);
  std::vector<Tensor> inputs;
  for (const Tensor* one : micro.tensors) inputs.push_back(*one);
  for (const Tensor& one : inputs)
    if (one && one.device() != state.device) return eagerly("the batch lies on another device");
  const std::string key = key_of(state, count, inputs, loss.kind);
  const bool is_new = !kinds_.contains(key);
  if (is_new && kinds_.size() == most_kinds)
    return eagerly(text("there are ", most_kinds, " kinds already"));
  Kind& kind = kinds_[key];
  if (is_new) {
    // Before it runs: it then leaves all the blocks that its graph will need.
    const TagScope tag(Tag::copies);
    for (const Tensor& one : inputs) kind.inputs.push_back(one ? empty_like(one) : one);
    kind.keys = Tensor({count + 1}, DType::i64, state.device);
    return eagerly("the first micro-batch of its kind");
  }
  // Losses of another dtype came in between: the graph knows the cotangent that was.
  if (kind.cotangent != state.cotangent.in().data) kind.graph = nullptr;
  if (!kind.graph && kind.attempts < most_attempts) capture(state, samples, micro, kind);
  if (!kind.graph) return eagerly(kind.refused);
  replay(state, samples, inputs, kind);
  ++use_.replayed;
  return true;
}

void GraphCache::capture(CycleState& state, std::span<const int64_t> samples,
                         const MicroLoss::Micro& micro, Kind& kind) {
  const GraphCalls& calls = *state.device.backend->graphs;
  if (!pool_) pool_ = std::make_unique<Allocator::Pool>(*state.device.backend->memory);
  ++kind.attempts;
  const std::vector<bool> before = touched(state);
  // A changed loss scale is written now, not by the graph.
  if (state.cotangent) state.cotangent_of(state.cotangent);
  const void* const written = state.cotangent.in().data;
  calls.begin();
  try {
    record(state, samples, micro, kind);
    kind.graph = std::shared_ptr<void>(calls.end(/*keep=*/true), calls.free);
    kind.touched = touched(state);
    ++use_.captured;
  } catch (const Failure& error) {
    kind.refused = error.what();
  } catch (const OutOfMemory& error) {
    kind.refused = error.what();
  } catch (...) {
    calls.end(/*keep=*/false);
    leave(state, before);
    throw;
  }
  calls.end(/*keep=*/false);
  leave(state, before);  // nothing has run yet: a new cotangent has not been written either
  if (state.cotangent.in().data != written) state.cotangent = {};
}

void GraphCache::record(CycleState& state, std::span<const int64_t> samples,
                        const MicroLoss::Micro& micro, Kind& kind) {
  const PoolScope pool(*pool_);
  const auto tape = state.tape(Tape::Run::at_once, samples);
  tape->keys_at(kind.keys);
  const TapeScope scope(tape.get());
  for (size_t i = 0; i < kind.inputs.size(); ++i) *micro.tensors[i] = kind.inputs[i];
  kind.loss = micro.loss();
  if (kind.loss->is_share() || kind.loss->count_is_known())
    throw Failure(text("[graphs] expected a loss with its count on the device, got ",
                       kind.loss->is_share() ? "a share of a total" : "a count known on the host",
                       ", which may change"));
  const Tensor& value = kind.loss->sum().value();
  kind.bytes = state.device.backend->memory->use().total;
  const void* prepared = state.cotangent.in().data;
  const Tensor& cotangent = state.cotangent_of(value);
  kind.cotangent = cotangent.in().data;
  if (kind.cotangent != prepared)
    throw Failure("[graphs] expected losses of one dtype, got another");
  tape->backward(kind.loss->sum(), cotangent);
  for (const auto& buffer : state.buffers) buffer->settle();
}

}  // namespace accrue
