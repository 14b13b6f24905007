// The flags of train_gpt about what changes on the way: batch, rates, averages of the weights.
#pragma once
#include <memory>
#include <string>

#include "../command_line.h"

namespace accrue::examples {

struct Options;

struct ScheduleOptions {
  std::string table, by;      // of the effective batch: STEP:SEQUENCES,…; noise or plateau
  int64_t largest = 0;        // that --batch-by may reach, in sequences
  std::string rule = "none";  // of the learning rate when the batch changes
  double beta2_half_life = 0;
  double ema = 0;  // decay; 0: no average
  bool find_lr = false;
};

/// After all other flags, because these name those that they exclude.
void add_schedule_flags(CLI::App& app, ScheduleOptions& o);
/// Fills in the defaults that hang on other flags, before those are filled in and checked.
void apply_schedule_flags(const CLI::App& app, Options& o);
/// Throws WrongUsage.
void check_schedules(const Options& o);
/// The most tokens of a batch: 2 GiB of ids and targets.
constexpr int64_t most_tokens = int64_t{1} << 28;
/// Throws WrongUsage where a batch has more.
void require_batch(const char* flag, int64_t sequences, const Options& o);

/// The effective batch by its flags; constant without any.
std::shared_ptr<BatchSchedule> make_batches(const Options& o);
/// The learning rate: a sweep for --find-lr, else warm-up and cosine, scaled with the batch. --lr
/// and --warmup are meant for --effective-batch: the warm-up keeps its length in tokens.
Schedule make_rate(const Options& o, std::shared_ptr<const BatchSchedule> batches);

}  // namespace accrue::examples
