// A closed cycle: what optimizers read; and what a checkpoint at an edge holds.
#include "accrue/autograd/cycle_state.h"

namespace accrue {

ClosedCycle::~ClosedCycle() {
  if (state_) state_->clear();
}

CycleState& ClosedCycle::state() const {
  require_order(state_ != nullptr, "[closed_cycle] expected one that is not stepped yet, got one ",
                "that was stepped or moved from; close another cycle");
  return *state_;
}

In ClosedCycle::sum(const Parameter& parameter) const {
  return state().buffer(*parameter.state())->sum();
}

std::array<double, 2> CycleState::read_totals() const {
  if (known_totals_) return *known_totals_;
  const std::vector<double> read = totals.to_vector();
  const std::array both{read[0], read[1]};
  if (phase == Phase::closed) known_totals_ = both;
  return both;
}

double CycleState::count() const {
  if (counted == 0) return 0;
  const double total = read_totals()[1];
  // Not of a cycle that was closed early, or of which something was dropped.
  const bool all = counted == micro.value && phase == Phase::closed && samples_done == batch_size;
  require(declared < 0 || *shares || !all || total == static_cast<double>(declared) ||
              current_mode() != Mode::run,
          "[cycle] expected the declared total of ", declared, ", but the losses counted ", total,
          "; declare what they count");
  return total;
}

double ClosedCycle::count() const { return state().count(); }
bool ClosedCycle::is_of_shares() const { return state().shares.value_or(false); }
double ClosedCycle::divisor() const { return count() * state().loss_scale(); }
double ClosedCycle::mean_loss() const {
  const double n = count();
  return n == 0 ? std::nan("") : state().read_totals()[0] / n;
}

std::optional<Prefix> ClosedCycle::prefix() const {
  if (!state().prefix || state().counted < 2 || *state().shares) return std::nullopt;
  const std::vector<double> read = state().prefix.to_vector();
  const double squares = read[0], n = read[1], divisor = n * state().loss_scale();
  return n == 0 ? std::nullopt : std::optional(Prefix{squares / (divisor * divisor), n});
}

std::vector<MicroRecord> ClosedCycle::records() const { return state().records.read(); }
bool ClosedCycle::skips_non_finite() const { return state().options.skip_non_finite; }
MicroStep ClosedCycle::micro_batches() const { return state().micro; }
Step ClosedCycle::step() const { return state().step; }
CycleIndex ClosedCycle::index() const { return CycleIndex{state().index.value - 1}; }
std::vector<const GradBuffer*> ClosedCycle::buffers() const {
  std::vector<const GradBuffer*> result;
  for (const auto& buffer : state().buffers) result.push_back(buffer.get());
  return result;
}

void ClosedCycle::finish(bool stepped) && {
  CycleState& one = state();
  // A cycle of padding alone says nothing about the scale; one of which all was dropped does.
  const bool overflowed = one.overflowed > 0;
  const bool says_nothing = !overflowed && one.counted > 0 && one.count() == 0;
  if (one.options.loss_scale && !says_nothing)
    one.options.loss_scale->update(stepped && !overflowed);
  if (stepped) ++one.step.value;
  one.clear();
  state_.reset();
}

std::vector<MicroRecord> Cycle::records() const { return state_->records.read(); }

GraphUse Cycle::graphs() const {
  GraphUse use = state_->graphs.use();
  if (!state_->options.graphs) use.why_eager = "CycleOptions::graphs is not set";
  if (state_->whole) use.why_eager = "an operation needs the whole cycle";
  return use;
}

namespace {

// A cycle under way goes on with the choices that it was begun with. Accumulators: GradBuffer.
void visit_choices(Visitor& part, const CycleOptions& options) {
  const std::string now =
      text("reproducible ", name_of(options.reproducible), ", granule ", options.granule,
           ", filter ", options.filter ? options.filter->name() : "none", ", consumption ",
           options.consume ? options.consume->name() : "at close");
  std::string saved = now;
  part("choices", saved);
  require(saved == now, "[cycle] expected the choices that the cycle under way was begun with (",
          saved, "), got ", now, "; choose the same, or load a checkpoint between two cycles");
}

}  // namespace

void Cycle::visit(Visitor& part) {
  state_->require_edge("visit");
  const auto position = std::pair(state_->index, state_->micro);
  int64_t batch = static_cast<int64_t>(state_->batch);
  int64_t shares = state_->shares ? *state_->shares : -1;
  part("step", state_->step.value);
  part("index", state_->index.value);
  part("micro", state_->micro.value);
  part("counted", state_->counted);
  part("samples_done", state_->samples_done);
  part("declared", state_->declared);
  part("batch", batch);
  part("shares", shares);
  state_->batch = static_cast<uint64_t>(batch);
  state_->shares = shares >= 0 ? std::optional(shares != 0) : std::nullopt;
  state_->facts.shares = shares > 0;
  if (state_->options.loss_scale) part("loss_scale", *state_->options.loss_scale);
  const bool under_way = state_->micro.value > 0;
  if (under_way) visit_choices(part, state_->options);
  if (state_->options.loss_scale && state_->options.filter) part("overflowed", state_->overflowed);
  if (under_way && state_->counted > 0) part("totals", state_->totals);
  if (under_way && state_->counted > 0 && state_->options.noise_scale)
    part("prefix", state_->prefix);
  if (position != std::pair(state_->index, state_->micro)) state_->records.clear();  // another's
  state_->phase = under_way ? CycleState::Phase::edge : CycleState::Phase::idle;
  for (const auto& buffer : state_->buffers) part(buffer->parameter(), *buffer);
}

}  // namespace accrue
