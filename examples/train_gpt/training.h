// One training run: all of its state, one step, validation, a sample.
#pragma once
#include <functional>
#include <string>

#include "accrue/nn/checkpoint.h"
#include "identity.h"
#include "options.h"

namespace accrue::examples {

/// The text's tokens: all but the last tenth to train on, the last tenth to validate on.
struct Data {
  Tokenizer tokenizer;
  Tokens train, validation;
  std::string digest;  // stands for the text, wherever its file lies
};
/// Throws Failure or BadArgument if the file is missing, empty or too short for one sequence each.
Data read_data(const Options& options);

/// Throws WrongUsage, in the words of the flags, if they ask for what no cycle can do together.
void check_choices(const Options& options);

struct Validation {
  double loss;
  std::optional<double> averaged;  // of the averaged weights, with --ema
};

struct Training {
  Training(const Options& options, const Data& data);
  Training(Training&&) = delete;  // the checkpoint points into it

  /// One cycle, or what is left of it, and its optimizer step. Throws Failure if the loss or its
  /// gradient is not finite, unless a loss scale may still shrink; the weights are then as they
  /// were. What at_edge throws leaves the run at that edge: it can be saved, and step() goes on
  /// from there.
  StepReport step();
  /// The same, but a step that is not finite is only reported as skipped.
  StepReport try_step();
  /// The last step was lost: skipped, and no loss scale may still shrink. With drop-non-finite, so
  /// were ten in a row: all micro-batches of one may have been bad.
  bool hopeless() const;
  /// Mean loss over the validation windows, or over `--eval-batches` of them, evenly spread. Throws
  /// Stopped between two micro-batches; nothing has changed then.
  Validation validate();
  /// Throws Failure where the weights have no loss, unless --keep-non-finite asked for such steps.
  void require_loss(const Validation& validation) const;
  /// The noise scale in sequences, where it is measured and known.
  std::optional<double> noise_scale() const;
  /// Sequences of the next step; in a dry run the largest there may be.
  int64_t batch() const;
  /// Goes on where the newest checkpoint stopped. Throws BadArgument if there is none or if it is
  /// of another run.
  void resume();
  /// At any edge, also from at_edge.
  void save() { checkpoint.save(cycle.step(), cycle.micro_batches()); }
  std::string sample_text(int64_t count) const;
  std::string weights_sha256() const;

  const Options& options;
  const Data& data;
  Gpt model;
  std::shared_ptr<BatchSchedule> batches;
  AdamW matrices, vectors;  // weight decay is for matrices only
  std::optional<Ema> ema;
  NoiseScale noise;                  // measured for --batch-by noise
  std::shared_ptr<LossScale> scale;  // none: gradients are not scaled
  Cycle cycle;
  TokenLoader loader;
  Tensor best;  // f64 [1]: the smallest validation loss so far
  std::string tokenizer;
  std::string unlogged;  // log line of a step that is done, until it is validated and written
  Identity identity;
  Checkpoint checkpoint;

  std::function<void()> at_edge;  // called between micro-batches
  /// Called often with what is under way, a step or a validation, and the part of it that is done.
  std::function<void(const char* what, double part)> told;
  int64_t samples = 0;    // trained on by this process
  int lost_in_a_row = 0;  // of this process's last cycles

 private:
  CycleOptions choices();
  Loss loss(const TokenBatch& batch) const;
  double validation_loss() const;
};

}  // namespace accrue::examples
