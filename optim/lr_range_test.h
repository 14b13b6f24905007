// The learning-rate range test: which rates a run can bear, from one short sweep.
#pragma once
#include <optional>
#include <vector>

#include "accrue/optim/optimizer.h"

namespace accrue {

struct LrRangeConfig {
  double from = 1e-6, to = 10;
  int64_t steps = 100;     // from the first rate to the last
  double smoothing = 0.9;  // decay of the loss's average
  double stop_factor = 2;  // the smoothed loss has diverged above this multiple of its smallest
};

/// Step s trains at from·(to/from)^(s/(steps − 1)) until the smoothed loss diverges or the sweep is
/// over. A step's loss is the one before its update, so it tells of the rates below its own.
/// Source: Smith, arXiv 1506.01186.
///   LrRangeTest test;
///   AdamW optimizer(parameters(model), {.lr = test.schedule()});
///   while (test.update(optimizer.step(cycle.run(…)))) {}
/// With a loss scale, a step that was skipped while the scale can still fall is no divergence: do
/// it once more before you tell of it.
class LrRangeTest {
 public:
  struct Point {
    double rate, loss, smoothed;
  };
  /// Throws BadArgument unless 0 < from < to, steps ≥ 2, smoothing in [0, 1) and stop_factor > 1.
  explicit LrRangeTest(LrRangeConfig config = {});

  Schedule schedule() const;
  /// Whether to go on. A skipped step, or a loss that is not finite, is a divergence.
  bool update(const StepReport& report);

  const std::vector<Point>& points() const { return points_; }
  /// The rate at which the smoothed loss falls fastest per decade; absent where it never falls.
  std::optional<double> steepest() const;
  /// The rate at which the loss diverged; absent where it did not. A tenth of it is a cautious
  /// choice of the largest rate to train at.
  std::optional<double> divergence() const { return divergence_; }

 private:
  LrRangeConfig config_;
  std::vector<Point> points_;
  double average_ = 0, weight_ = 0;  // of the loss, and 1 − smoothing^n
  size_t best_ = 0;                  // the point of the smallest smoothed loss
  std::optional<double> divergence_;
};

}  // namespace accrue
