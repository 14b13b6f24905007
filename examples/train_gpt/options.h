// The flags of train_gpt.
#pragma once
#include <algorithm>
#include <map>
#include <optional>
#include <string>

#include "accrue/accrue.h"
#include "accumulation.h"
#include "schedule_options.h"

namespace accrue::examples {

/// The defaults are nanoGPT's small character model for a CPU, with a learning rate tuned for it.
struct Options {
  std::string data;
  TokenizerKind tokenizer = TokenizerKind::character;
  GptConfig model;  // the vocabulary is the data's

  int64_t micro_batch = 12, effective_batch = 12;  // in sequences
  int64_t steps = 2000;
  double lr = 3e-3, min_lr = 0;
  int64_t warmup = 0;
  double weight_decay = 0.1, beta1 = 0.9, beta2 = 0.99, clip = 1;
  Seed seed{1};
  Accumulation accumulation;
  ScheduleOptions schedules;

  int64_t eval_interval = 250, eval_batches = 0;
  int64_t threads = 1;
  Device device;
  DType dtype = DType::f32;
  bool dry_run = false;
  int64_t verify = 0;  // samples; 0: train instead

  std::string log, checkpoint;
  int64_t checkpoint_interval = 0;  // in steps, or in micro-batches
  bool interval_in_micro_batches = false;
  bool resume = false, records = false;
  int64_t sample = 0, top_k = 0;
  double temperature = 1;

  std::map<std::string, std::string>
      flags;  // every flag and its value, also where that is a default, as text
};

/// Of --warmup, in steps.
inline int64_t warmup_for(int64_t steps) { return std::min<int64_t>(100, steps / 5); }

/// Sequences that are computed at once as far as bits go: where these are not to depend on the
/// micro-batch, a granule.
inline int64_t unit(const Options& o) {
  return o.accumulation.reproducible == "run" ? o.micro_batch : o.accumulation.granule;
}

/// Reads and checks the command line; nothing: help was printed. Throws WrongUsage.
std::optional<Options> read_options(int argc, char** argv);

}  // namespace accrue::examples
