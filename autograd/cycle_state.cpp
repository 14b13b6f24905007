// Which buffer, which tape, which call at which moment: what a cycle and its scopes ask of their
// state.
#include "accrue/autograd/cycle_state.h"

namespace accrue {

const char* phase_name(CycleState::Phase phase) {
  constexpr const char* names[] = {"idle", "between two micro-batches", "inside a micro-batch",
                                   "broken by an exception in backward",
                                   "closed and not yet stepped"};
  return names[static_cast<int>(phase)];
}

uint64_t hash_samples(std::span<const int64_t> samples) {
  return hash_of(samples.size(),
                 {reinterpret_cast<const char*>(samples.data()), samples.size_bytes()});
}

const std::shared_ptr<GradBuffer>& CycleState::buffer(const ParameterState& parameter) const {
  const auto found = buffer_of.find(&parameter);
  require(found != buffer_of.end(), "[cycle] expected ", parameter.name,
          " in the cycle or frozen, got neither; add it to the cycle's parameters, or "
          "freeze(parameters(model).matching(\"",
          parameter.name, "\"))");
  return buffers[found->second];
}

std::unique_ptr<Tape> CycleState::tape(Tape::Run run, std::span<const int64_t> samples) {
  return std::make_unique<Tape>(run, std::vector<int64_t>(samples.begin(), samples.end()), index,
                                [this](const ParameterState& p) { return buffer(p); });
}

void CycleState::require_edge(const char* call) const {
  require_order(phase == Phase::idle || phase == Phase::edge, "[", call,
                "] expected a cycle that is idle or between two micro-batches, got one that is ",
                phase_name(phase),
                phase == Phase::closed ? "; step it or drop its ClosedCycle" : "; try discard()");
}

void CycleState::begin_micro_batch(int64_t samples) {
  require(options.reproducible == Reproducible::run || batch_size > 0,
          "[begin] expected micro-batches made by split(), which knows the whole cycle, for the "
          "reproducibility asked for; got others");
  const int64_t expected = std::min(options.granule, batch_size - samples_done);
  require(options.reproducible == Reproducible::run || samples == expected,
          "[begin] expected the next granule of ", expected, " samples, as split() made it, got ",
          samples, "; take them in its order");
  phase = Phase::inside;
  if (micro.value == 0) records.clear();
  records.begin(samples);
  if (!options.consume) return;
  // In the last micro-batch a sum is final once its parameter has been through backward.
  const bool last = samples_done + samples == batch_size;
  final_divisor_.reset();
  std::function<void(GradBuffer&)> consume;
  if (last)
    consume = [this](GradBuffer& one) {
      if (const double divisor = final_divisor()) options.consume->consume(one, step, divisor);
    };
  for (const auto& buffer : buffers) buffer->when_final(consume);
}

void CycleState::add(const Loss& loss, const Tensor& value) {
  require(shares.value_or(loss.is_share()) == loss.is_share(),
          "[cycle] expected one denominator per cycle, got counted losses and shares; use one kind "
          "of Loss for all its micro-batches");
  require(!loss.is_share() || !options.filter || !options.filter->may_drop(),
          "[cycle] expected counted losses with the filter ",
          options.filter ? options.filter->name() : "",
          ": a share is divided by the total of all micro-batches, also of those that are dropped; "
          "give the loss its count");
  shares = facts.shares = loss.is_share();
  if (loss.is_share()) facts.divisor = loss_scale();
  const Write write = counted++ == 0 ? Write::set : Write::add;
  launch(device, kernel::Copy{value.to(device).in(), totals.slice(0, 1).out(), write});
  if (loss.is_share())
    launch(device, kernel::Fill{totals.slice(1, 1).out(), 1});
  else
    launch(device, kernel::Copy{loss.count().in(), totals.slice(1, 1).out(), write});
}

const Tensor& CycleState::cotangent_of(const Tensor& loss) {
  const bool usable = cotangent && cotangent.dtype() == loss.dtype() &&
                      cotangent.device() == loss.device() &&
                      (current_mode() != Mode::run || cotangent.in().data);
  if (usable && scaled_by == loss_scale()) return cotangent;
  const TagScope tag(Tag::gradients);
  if (!usable) cotangent = empty_like(loss);
  launch(cotangent.device(), kernel::Fill{cotangent.out(), loss_scale()});
  scaled_by = loss_scale();
  return cotangent;
}

// Known beforehand where the batch declares its total; else read, once.
double CycleState::final_divisor() {
  if (!final_divisor_) final_divisor_ = facts.divisor >= 0 ? facts.divisor : count();
  return *final_divisor_;
}

bool CycleState::finish() {
  bool all = true;
  for (const auto& buffer : buffers) all = buffer->finish() && all;
  return all;
}

void CycleState::clear() {
  for (const auto& buffer : buffers) buffer->clear();
  shares.reset();
  facts.shares = false;
  declared = batch_size = facts.micro_batches = -1;
  facts.divisor = -1;
  counted = overflowed = 0;
  known_totals_.reset();
  micro = {};
  samples_done = 0;
  phase = Phase::idle;
}

void CycleState::measure_prefix() {
  std::vector<In> sums;
  for (const auto& buffer : buffers)
    if (const In sum = buffer->sum()) sums.push_back(sum);
  const Out squares = prefix.slice(0, 1).out(), count = prefix.slice(1, 1).out();
  launch(device, kernel::Dot{sums, sums, squares});
  launch(device, kernel::Copy{totals.slice(1, 1).in(), count, Write::set});
}

}  // namespace accrue
