#include "accumulation.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <limits>

#include "../accumulators/flora.h"
#include "../accumulators/kahan_bf16.h"
#include "../accumulators/median_of_means.h"
#include "../accumulators/neumaier.h"
#include "../accumulators/sign_vote.h"

namespace accrue::examples {
namespace {

// Accumulators from outside the library, which --accumulate can name: put your own here.
accumulators::Own own_accumulators(Seed seed = {}) {
  return {std::make_shared<Neumaier>(), std::make_shared<SignVote>(),
          std::make_shared<MedianOfMeans>(4), std::make_shared<Flora>(16, seed),
          std::make_shared<KahanBf16>(KahanBf16::Reading::high_minus_carry)};
}

constexpr double largest_scale = std::numeric_limits<float>::max();

bool into_moments(const Accumulation& a) {
  return a.consume == "adam_a" || a.consume == "invariant";
}

}  // namespace

void add_accumulation_flags(CLI::App& app, Accumulation& a) {
  std::string names, own;
  for (const auto& one : accumulators::all()) names += text(names.empty() ? "" : ", ", one->name());
  for (const auto& one : own_accumulators()) own += text(own.empty() ? "" : ", ", one->name());
  app.add_option("--accumulate", a.accumulate,
                 "How gradients add: " + names + "; from examples/accumulators: " + own +
                     "; or by parameter, the first match wins, as in \"kahan:*.ln_*,f32:*\"")
      ->capture_default_str();
  app.add_option(
      "--filter", a.filter,
      "What may weigh or drop a micro-batch, one of clip:LIMIT (of the norm of its gradient's "
      "sum over tokens, so some tokens times what --clip takes), agreement:TAU (drops it where "
      "1 - cosine with the sums so far is above TAU), drop-non-finite, observe (only looks: "
      "see --records); given twice, the last counts alone (default: none)");
  app.add_option("--consume", a.consume,
                 "When the optimizer reads the sums: at close, in the last micro-batch's backward, "
                 "or into Adam's moments (adam_a; invariant: batch-size-invariant Adam)")
      ->check(one_of({"close", "backward", "adam_a", "invariant"}))
      ->capture_default_str();
  app.add_option("--reproducible", a.reproducible,
                 "run: bits depend on the micro-batch size; split: not; ranks: nor on the number "
                 "of ranks, once there are any")
      ->check(one_of({"run", "split", "ranks"}))
      ->capture_default_str();
  app.add_option("--granule", a.granule, "Sequences that split and ranks run at once")
      ->check(positive)
      ->capture_default_str();
  app.add_option("--loss-scale", a.loss_scale,
                 "Where the dynamic loss scale starts (default: 65536 for f16, else none)");
  app.add_flag_callback(
      "--keep-non-finite", [&a] { a.skip_non_finite = false; },
      "Step even if the gradient is not finite; --consume other than close needs it");
}

void check(const Accumulation& a) {
  require_usage(!a.accumulate.empty(), "--accumulate: expected a name, got none");
  as_usage("--accumulate: ", [&] { accumulators::parse(a.accumulate, own_accumulators()); });
  if (!a.filter.empty()) as_usage("--filter: ", [&] { filters::parse(a.filter); });
  require_usage(!a.loss_scale || (*a.loss_scale > 0 && *a.loss_scale <= largest_scale),
                "--loss-scale: expected a positive number that f32 holds, got ",
                a.loss_scale.value_or(0));
  require_usage(a.granule == 1 || a.reproducible != "run",
                "--granule: expected --reproducible split or ranks, got run, which has none");
  require_usage(!into_moments(a) || a.accumulate == "f32",
                "--accumulate: expected none with --consume ", a.consume,
                ", which keeps no sums, got ", a.accumulate);
}

void check_micro_batches(const Accumulation& a, int64_t most) {
  for (const auto& [pattern, one] : accumulators::parse(a.accumulate, own_accumulators()))
    require_usage(!dynamic_cast<const SignVote*>(one.get()) || most <= SignVote::most,
                  "--accumulate sign_vote: expected at most ", SignVote::most,
                  " micro-batches in the largest batch, got ", most, "; try a larger ",
                  a.reproducible == "run" ? "--micro-batch" : "--granule");
}

std::string in_flags(std::string message, const Accumulation& a) {
  // What the flags chose decides which other accumulator there is.
  const std::string f32 = into_moments(a) ? "--consume close" : "--accumulate f32";
  const std::string running = into_moments(a)             ? f32
                              : a.reproducible == "ranks" ? "--reproducible split"
                                                          : "--accumulate f32 or kahan";
  const std::string tree =
      into_moments(a) ? "--reproducible split" : "--accumulate tree or fixed_point";
  const std::pair<std::string, std::string> words[] = {
      {"set skip_non_finite = true, or train in bf16 without a loss scale",
       a.consume == "close"
           ? "leave out --keep-non-finite, or try --dtype bf16 without --loss-scale"
           : "try --dtype bf16 or f32 without --loss-scale, or --consume close"},
      {"set noise_scale = false", "leave out --batch-by noise"},
      {"set skip_non_finite = false", "try --keep-non-finite"},
      {"skip_non_finite = false", "--keep-non-finite"},
      {"skip_non_finite", "skipping (no --keep-non-finite)"},
      {"reproducible = ranks", "--reproducible ranks"},
      {"set clip = 0", "try --clip 0"},
      {"clip each micro-batch by a filter, or use f32",
       "try --clip 0, and --filter clip:LIMIT for each micro-batch, or " + f32},
      {"by a filter", "by --filter clip:LIMIT"},
      {"consume at close", "try --consume close"},
      {"train in bf16", "try --dtype bf16 and no --loss-scale"},
      {"drop the filter", "leave out --filter"},
      {"use the filter clip, or sums of f32", "try --filter clip:LIMIT, or " + f32},
      {"moments:1", "invariant"},
      {"try tree or fixed_point", "try " + tree},
      {"use f32 or kahan", "try " + running},
      {"use f32", "try " + f32}};
  for (const auto& [from, to] : words)
    if (const size_t at = message.find(from); at != std::string::npos)
      message.replace(at, from.size(), to);
  return message;
}

std::shared_ptr<LossScale> loss_scale_for(const Accumulation& a, DType dtype) {
  const double scale = a.loss_scale.value_or(dtype == DType::f16 ? f16_loss_scale : 0);
  if (scale == 0) return nullptr;
  return std::make_shared<LossScale>(
      LossScaleConfig{.initial = scale, .smallest = std::min(scale, 1.0)});
}

bool depends_on_micro_batches(const Accumulation& a) {
  const auto chosen = accumulators::parse(a.accumulate, own_accumulators());
  const auto depends = [](const auto& one) { return one->split_equality() == SplitEquality::none; };
  return into_moments(a) || (!a.filter.empty() && depends(filters::parse(a.filter))) ||
         std::ranges::any_of(chosen, [&](const auto& one) { return depends(one.second); });
}

CycleOptions cycle_options(const Accumulation& a, Seed seed, std::shared_ptr<LossScale> scale,
                           AdamW& matrices, AdamW& vectors) {
  CycleOptions options{
      .accumulate = accumulators::parse(a.accumulate, own_accumulators(seed), seed),
      .loss_scale = std::move(scale),
      .reproducible = parse_reproducible(a.reproducible),
      .granule = a.granule,
      .skip_non_finite = a.skip_non_finite};
  if (!a.filter.empty()) options.filter = filters::parse(a.filter);
  if (a.consume == "backward") options.consume = in_backward({&matrices, &vectors});
  if (into_moments(a)) {
    options.accumulate.clear();
    for (AdamW* one : {&matrices, &vectors}) {
      const auto into = into_moments(*one, a.consume == "invariant" ? 1 : 0);
      for (const auto& parameter : one->parameters().list)
        options.accumulate.emplace_back(parameter->name, into);
    }
  }
  return options;
}

}  // namespace accrue::examples
