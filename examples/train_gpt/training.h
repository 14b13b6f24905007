// One training run: all of its state, one step, validation, a sample.
#pragma once
#include <string>

#include "accrue/nn/checkpoint.h"
#include "options.h"

namespace accrue::examples {

/// The text's tokens: all but the last tenth to train on, the last tenth to validate on.
struct Data {
  Tokenizer tokenizer;
  Tokens train, validation;
};
/// Throws Failure or BadArgument if the file is missing, empty or too short for one sequence each.
Data read_data(const Options& options);

struct Training {
  Training(const Options& options, const Data& data);
  Training(Training&&) = delete;  // the checkpoint points into it

  /// One cycle and its optimizer step. Throws Failure if the loss or its gradient is not finite,
  /// unless a loss scale may still shrink; the weights are then as they were.
  StepReport step();
  /// Mean loss over the validation windows, or over `--eval-batches` of them, evenly spread.
  double validate();
  /// Goes on where the newest checkpoint stopped. Throws BadArgument if there is none or if it is
  /// of another run.
  void resume();
  void save() { checkpoint.save(cycle.step()); }
  std::string sample_text() const;
  std::string weights_sha256() const;

  const Options& options;
  const Data& data;
  Gpt model;
  AdamW matrices, vectors;  // weight decay is for matrices only
  CycleOptions cycle_choices;
  std::shared_ptr<LossScale> scale;  // none: gradients are not scaled
  Cycle cycle;
  TokenLoader loader;
  Tensor best;  // f64 [1]: the smallest validation loss so far
  std::string tokenizer, identity;
  Checkpoint checkpoint;

 private:
  Loss loss(const TokenBatch& batch) const;
};

}  // namespace accrue::examples
