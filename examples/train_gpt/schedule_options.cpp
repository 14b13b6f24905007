#include "schedule_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>

#include "options.h"

namespace accrue::examples {
namespace {

constexpr int64_t sweep_steps = 100;

RateRule rate_rule(const std::string& word) {
  return word == "linear" ? RateRule::linear
         : word == "sqrt" ? RateRule::square_root
                          : RateRule::none;
}

// By noise two micro-batches, or granules, are the least that can be told apart.
BatchLimits limits_of(const Options& o) {
  const int64_t least = o.schedules.by == "noise" ? 2 * unit(o) : unit(o);
  return {.smallest = least, .largest = o.schedules.largest, .multiple = unit(o)};
}

const char* unit_flag(const Options& o) {
  return o.accumulation.reproducible == "run" ? "--micro-batch" : "--granule";
}

Step warm_up_of(const Options& o) {
  if (o.schedules.table.empty()) return Step{o.warmup};
  return BatchTable::parse(o.schedules.table).step_after(o.warmup * o.effective_batch);
}

}  // namespace

void add_schedule_flags(CLI::App& app, ScheduleOptions& o) {
  auto* table = app.add_option("--batch-schedule", o.table,
                               "Effective batches by step, as in \"0:12,1000:24\"; "
                               "--effective-batch is then what --lr and --warmup are meant for");
  auto* by = app.add_option("--batch-by", o.by,
                            "What moves the effective batch: the gradient noise scale, or a "
                            "validation loss that no longer falls (doubles after three)")
                 ->check(one_of({"noise", "plateau"}))
                 ->excludes(table);
  app.add_option("--max-batch", o.largest,
                 "Of --batch-by; a multiple of --micro-batch, or of --granule under --reproducible "
                 "split and ranks (default: 8 effective batches)")
      ->needs(by);
  auto* rule =
      app.add_option("--lr-rule", o.rule, "How the learning rate follows the effective batch")
          ->check(one_of({"none", "linear", "sqrt"}))
          ->capture_default_str();
  app.add_option("--beta2-half-life", o.beta2_half_life,
                 "Tokens after which half of AdamW's second moment is forgotten, whatever the "
                 "batch; 0: --beta2 at every step")
      ->excludes(app.get_option("--beta2"));
  auto* ema = app.add_option("--ema", o.ema,
                             "Decay of an average of the weights, which is validated too; 0: none");
  auto* find = app.add_flag("--find-lr", o.find_lr,
                            "Sweep the learning rate upwards and suggest one; saves nothing");
  for (const char* other :
       {"--lr", "--min-lr", "--warmup", "--dry-run", "--verify", "--checkpoint", "--sample"})
    find->excludes(app.get_option(other));
  for (auto* other : {table, by, rule, ema}) find->excludes(other);
}

void apply_schedule_flags(const CLI::App& app, Options& o) {
  ScheduleOptions& s = o.schedules;
  if (s.find_lr && app.count("--steps") == 0) o.steps = sweep_steps;
  if (!s.by.empty() && app.count("--max-batch") == 0 && unit(o) > 0)
    s.largest = (8 * std::min(o.effective_batch, most_tokens) + unit(o) - 1) / unit(o) * unit(o);
}

void require_batch(const char* flag, int64_t sequences, const Options& o) {
  const int64_t most = most_tokens / o.model.context;
  require_usage(sequences <= most, flag, ": expected at most ", most, " sequences of ",
                o.model.context, " tokens, got ", sequences);
}

void check_schedules(const Options& o) {
  const ScheduleOptions& s = o.schedules;
  if (!s.table.empty())
    as_usage("--batch-schedule: ", [&] {
      require(warm_up_of(o) <= Step{o.steps},
              "[warm-up] expected --warmup, which keeps its length in tokens, to end within the ",
              o.steps, " steps, got ", warm_up_of(o).value, "; try a shorter --warmup");
    });
  const std::string by = "--batch-by " + s.by + ": ";
  require_usage(s.by != "noise" || o.effective_batch >= 2 * unit(o), by,
                "expected an --effective-batch of at least two micro-batches to compare (two "
                "granules under --reproducible split and ranks), got ",
                o.effective_batch, " with ", unit_flag(o), " ", unit(o), "; try ", unit_flag(o),
                " ", std::max<int64_t>(1, o.effective_batch / 2));
  if (!s.by.empty()) {
    require_usage(s.largest % unit(o) == 0 && s.largest >= o.effective_batch,
                  "--max-batch: expected a multiple of ", unit_flag(o), " ", unit(o),
                  " from --effective-batch ", o.effective_batch, " on, got ", s.largest);
    as_usage(by.c_str(), [&] { make_batches(o); });
  }
  if (!s.table.empty() || !s.by.empty())
    require_batch(s.by.empty() ? "--batch-schedule" : "--max-batch", make_batches(o)->largest(), o);
  require_usage(s.rule == "none" || !s.table.empty() || !s.by.empty(),
                "--lr-rule: expected --batch-schedule or --batch-by, got a constant batch");
  require_usage(s.beta2_half_life >= 0 && std::isfinite(s.beta2_half_life),
                "--beta2-half-life: expected at least 0 tokens (0: none), got ", s.beta2_half_life);
  require_usage(s.ema >= 0 && s.ema < 1, "--ema: expected a decay in [0, 1) (0: none), got ",
                s.ema);
  require_usage(!s.find_lr || o.steps >= 2, "--find-lr: expected at least 2 --steps, got ",
                o.steps);
}

std::shared_ptr<BatchSchedule> make_batches(const Options& o) {
  if (!o.schedules.table.empty())
    return std::make_shared<BatchTable>(BatchTable::parse(o.schedules.table));
  if (o.schedules.by == "noise")
    return std::make_shared<BatchByNoise>(
        o.effective_batch, NoiseBatchConfig{.limits = limits_of(o), .hold = Step{o.warmup}});
  if (o.schedules.by == "plateau")
    return std::make_shared<BatchByPlateau>(o.effective_batch,
                                            PlateauBatchConfig{.limits = limits_of(o)});
  return std::make_shared<BatchTable>(o.effective_batch);
}

Schedule make_rate(const Options& o, std::shared_ptr<const BatchSchedule> batches) {
  if (o.schedules.find_lr) return LrRangeTest({.steps = o.steps}).schedule();
  const Schedule rate = cosine(o.lr, warm_up_of(o), Step{o.steps}, o.min_lr);
  const RateRule rule = rate_rule(o.schedules.rule);
  if (rule == RateRule::none) return rate;
  return scaled_rate(rate, rule, static_cast<double>(o.effective_batch),
                     std::function<double(Step)>(
                         [batches](Step step) { return static_cast<double>((*batches)(step)); }));
}

}  // namespace accrue::examples
