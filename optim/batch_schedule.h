// The effective batch as a schedule: by a table of steps, by the noise scale, or by a plateau of
// the validation loss. The micro-batch is another matter: a step of B samples in micro-batches of m
// has K = ⌈B/m⌉ of them, whatever m is.
#pragma once
#include <limits>
#include <string_view>
#include <vector>

#include "accrue/autograd/module.h"
#include "accrue/core/ordinal.h"

namespace accrue {

/// The effective batch of a step, in samples. What may change it tells it what was seen; a schedule
/// that does not care ignores it. Skipped steps are none: tell nothing of them.
class BatchSchedule {
 public:
  virtual ~BatchSchedule() = default;
  /// The batch of this step: the one that comes next, except for tables, which know them all.
  virtual int64_t operator()(Step step) const = 0;
  /// The largest that there can be, to reserve for.
  virtual int64_t largest() const = 0;
  /// `step` steps are done, and B_simple is this many samples now.
  virtual void noise_seen(Step step, double noise_scale) { (void)step, (void)noise_scale; }
  virtual void validation_seen(double loss) { (void)loss; }
  /// The state, for a checkpoint.
  virtual void visit(Visitor& part) { (void)part; }
};

/// Each entry's batch holds from its step on.
class BatchTable final : public BatchSchedule {
 public:
  struct Entry {
    Step from;
    int64_t samples;
  };
  /// Throws BadArgument unless the steps rise from 0 and all batches have samples.
  explicit BatchTable(std::vector<Entry> entries);
  explicit BatchTable(int64_t constant) : BatchTable({{Step{0}, constant}}) {}
  /// "0:32,1000:64,5000:128": STEP:SAMPLES. Throws BadArgument.
  static BatchTable parse(std::string_view words);

  int64_t operator()(Step step) const override;
  int64_t largest() const override;
  /// The first step before which at least `samples` samples were seen: a warm-up of W steps of B
  /// samples keeps its length in tokens as step_after(W·B). For a constant batch κB: ⌈W/κ⌉.
  Step step_after(int64_t samples) const;

 private:
  std::vector<Entry> entries_;
};

/// Where a batch may go: multiples of `multiple` (usually the micro-batch) in [smallest, largest].
struct BatchLimits {
  int64_t smallest, largest, multiple = 1;
  /// The multiple nearest to `samples`, within the limits.
  int64_t fit(double samples) const;
  /// Throws BadArgument unless both limits are multiples, in order, and `start` lies between them.
  void check(int64_t start) const;
};

struct NoiseBatchConfig {
  BatchLimits limits;
  double hysteresis = 1.5;  // the batch moves only for a change by at least this factor
  Step hold = {};           // and not before this step (the warm-up's end)
};
/// B ← B_simple. Source: McCandlish et al., arXiv 1812.06162.
class BatchByNoise final : public BatchSchedule {
 public:
  BatchByNoise(int64_t start, NoiseBatchConfig config);
  int64_t operator()(Step) const override { return batch_; }
  int64_t largest() const override { return config_.limits.largest; }
  void noise_seen(Step step, double noise_scale) override;
  void visit(Visitor& part) override;

 private:
  int64_t batch_;
  NoiseBatchConfig config_;
};

struct PlateauBatchConfig {
  BatchLimits limits;
  double factor = 2;
  int64_t patience = 3;       // validations in a row that are no improvement
  double improvement = 1e-3;  // below (1 − improvement)·best a loss is one
};
/// B ← factor·B where the validation loss stops falling, instead of a smaller learning rate.
/// Source: Smith et al., arXiv 1711.00489.
class BatchByPlateau final : public BatchSchedule {
 public:
  BatchByPlateau(int64_t start, PlateauBatchConfig config);
  int64_t operator()(Step) const override { return batch_; }
  int64_t largest() const override { return config_.limits.largest; }
  void validation_seen(double loss) override;
  void visit(Visitor& part) override;

 private:
  int64_t batch_;
  PlateauBatchConfig config_;
  double best_ = std::numeric_limits<double>::infinity();
  int64_t waited_ = 0;
};

}  // namespace accrue
