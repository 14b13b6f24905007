// A cycle is made: which accumulator each parameter gets, and which choices cannot go together.
#include <algorithm>

#include "accrue/autograd/cycle_state.h"

namespace accrue {
namespace {

/// The first pattern that matches decides.
std::shared_ptr<const Accumulator> choice_for(const ParameterState& parameter,
                                              const CycleOptions& options) {
  auto chosen = accumulators::f32();
  for (const auto& [pattern, accumulator] : options.accumulate)
    if (matches(parameter.name, pattern)) {
      chosen = accumulator;
      break;
    }
  if (options.reproducible != Reproducible::ranks || chosen->name() == "fixed_point") return chosen;
  require(
      chosen->name() == "f32" || chosen->name() == "tree",
      "[cycle] expected sums that do not depend on who adds them, for reproducible = ranks; got ",
      chosen->name(), " for ", parameter.name, "; try tree or fixed_point");
  return accumulators::tree();
}

/// A pattern that decides nothing is a slip of the pen.
void check_patterns(const Parameters& parameters, const CycleOptions& options) {
  for (size_t i = 0; i < options.accumulate.size(); ++i) {
    const auto& [pattern, choice] = options.accumulate[i];
    bool matching = false, deciding = false;
    for (const auto& parameter : parameters.list) {
      if (!matches(parameter->name, pattern)) continue;
      matching = true;
      deciding = deciding || std::none_of(options.accumulate.begin(),
                                          options.accumulate.begin() + i, [&](const auto& earlier) {
                                            return matches(parameter->name, earlier.first);
                                          });
    }
    require(matching, "[cycle] expected a pattern that matches a parameter's name for ",
            choice->name(), ", got ", pattern, "; names are such as ",
            parameters.list.front()->name, " and ", parameters.list.back()->name, "; try *");
    require(
        deciding, "[cycle] expected ", choice->name(), ':', pattern,
        " to decide for some parameter, but earlier patterns match them all; put it before them");
  }
}

/// What an accumulator declares against what the cycle was told.
void check(const Accumulator& one, const CycleOptions& options) {
  require(one.undoable() || !options.skip_non_finite, "[cycle] expected sums that can be thrown ",
          "away, because a cycle that is not finite is skipped; ", one.name(),
          " updates the optimizer at once; set skip_non_finite = false, or use f32");
  require(one.undoable() || !options.loss_scale, "[cycle] expected sums that can be thrown away ",
          "when the loss scale overflows; ", one.name(), " cannot; train in bf16, or use f32");
  require(one.running_sum() || !options.filter || !options.filter->reads_sums(), "[cycle] the ",
          "filter ", options.filter ? options.filter->name() : "", " reads the sums so far; ",
          one.name(), " has none before the cycle's end; use f32 or kahan");
  require(one.shows_non_finite() || !options.loss_scale, "[cycle] expected sums that show ",
          "when the loss scale overflows; ", one.name(), " hides it; train in bf16, or use f32");
  require(one.bears_drops() || !options.filter || !options.filter->may_drop(),
          "[cycle] expected a filter that drops nothing with ", one.name(),
          ", which cannot lose a micro-batch; got ", options.filter ? options.filter->name() : "",
          "; use the filter clip, or sums of f32");
  require(one.running_sum() || !options.noise_scale, "[cycle] the noise scale reads the sum after ",
          "the first micro-batch; ", one.name(), " has none; use f32 or kahan");
  require(!one.may_overflow() || !options.consume, "[cycle] sums of ", one.name(),
          " may overflow and make the cycle run again, which is too late once parameters were "
          "updated in backward; consume at close, or use f32");
}

void check(const CycleOptions& options, const Parameters& parameters) {
  require(options.granule > 0, "[cycle] expected granules of at least one sample, got ",
          options.granule);
  require(!options.loss_scale || options.skip_non_finite,
          "[cycle] expected to skip cycles that are not finite with a loss scale, which finds its "
          "limit by overflows; set skip_non_finite = true, or train in bf16 without a loss scale");
  if (!options.consume) return;
  require(!options.noise_scale,
          "[cycle] expected either to step in backward or to measure the noise scale, which needs "
          "the norm of the whole cycle's sums; consume at close, or set noise_scale = false");
  require(!options.skip_non_finite,
          "[cycle] expected either to step in backward or to skip cycles that are not finite: by "
          "the time the gradient is known, parameters were updated; set skip_non_finite = false, "
          "or consume at close");
  require(!options.loss_scale,
          "[cycle] expected either to step in backward or a loss scale, whose overflow must be "
          "undone; consume at close, or train in bf16");
  require(!options.filter,
          "[cycle] expected either to step in backward or a filter, which judges a whole "
          "micro-batch's gradient; consume at close, or drop the filter");
  options.consume->check(options, parameters);
}

/// A cycle that runs again folds all its micro-batches twice.
void check_replay(const std::vector<std::shared_ptr<GradBuffer>>& buffers) {
  for (const auto& one : buffers)
    for (const auto& other : buffers)
      require(!one->accumulator().may_overflow() || other->accumulator().undoable(),
              "[cycle] expected sums that can be thrown away where others may overflow and make "
              "the cycle run again; got ",
              other->accumulator().name(), " for ", other->parameter(), " and ",
              one->accumulator().name(), " for ", one->parameter(), "; use f32 for the latter");
}

}  // namespace

std::string_view name_of(Reproducible tier) {
  constexpr std::string_view names[] = {"run", "split", "ranks"};
  return names[static_cast<int>(tier)];
}

Reproducible parse_reproducible(std::string_view name) {
  for (const auto tier : {Reproducible::run, Reproducible::split, Reproducible::ranks})
    if (name == name_of(tier)) return tier;
  throw BadArgument(text("[cycle] expected run, split or ranks, got ", name));
}

CycleState::CycleState(const Parameters& parameters, CycleOptions given)
    : options(std::move(given)),
      device(parameters.list.empty() ? Device() : parameters.list[0]->master.device()),
      records(device) {
  require(!parameters.list.empty(), "[cycle] expected at least one parameter, got none");
  check(options, parameters);
  check_patterns(parameters, options);
  const auto folds =
      options.filter ? GradBuffer::Folds::when_judged : GradBuffer::Folds::at_last_use;
  for (const auto& parameter : parameters.list) {
    const auto accumulator = choice_for(*parameter, options);
    check(*accumulator, options);
    accumulator->check(*parameter);
    auto buffer = std::make_shared<GradBuffer>(parameter, accumulator, &facts, folds);
    require(buffer_of.emplace(parameter.get(), buffers.size()).second,
            "[cycle] expected each parameter once, got ", parameter->name, " twice");
    buffers.push_back(std::move(buffer));
  }
  check_replay(buffers);
  const TagScope tag(Tag::gradients);
  totals = Tensor({2}, DType::f64, device);
  if (options.noise_scale) prefix = Tensor({2}, DType::f64, device);
}

std::vector<Cycle::Piece> Cycle::pieces(std::span<const int64_t> samples, MicroSize size,
                                        int64_t declared) {
  const auto n = static_cast<int64_t>(samples.size());
  require(n > 0, "[cycle] expected a batch with samples, got an empty one");
  require(size.samples > 0, "[cycle] expected micro-batches of at least one sample, got ",
          size.samples);
  require(declared >= -1, "[cycle] expected a declared total of at least 0, got ", declared);
  state_->require_edge("run");
  const uint64_t batch = hash_samples(samples);
  require_order(state_->phase == CycleState::Phase::idle || state_->batch == batch,
                "[run] expected the batch whose cycle is under way (", state_->samples_done,
                " samples done), got another; try discard()");
  const bool granules = state_->options.reproducible != Reproducible::run;
  const int64_t step = granules ? state_->options.granule : size.samples;
  require_order(!granules || state_->samples_done % step == 0,
                "[run] expected the granules that this cycle began with, got others of ", step);
  state_->batch = batch;
  state_->batch_size = n;
  state_->declared = declared;
  state_->facts.divisor = declared < 0 ? -1 : static_cast<double>(declared) * state_->loss_scale();
  state_->facts.micro_batches = state_->micro.value + (n - state_->samples_done + step - 1) / step;
  std::vector<Piece> result;
  for (int64_t first = state_->samples_done; first < n; first += step)
    result.push_back({first, std::min(step, n - first)});
  return result;
}

}  // namespace accrue
