#include "accrue/optim/lr_range_test.h"

#include <algorithm>
#include <cmath>

namespace accrue {

LrRangeTest::LrRangeTest(LrRangeConfig config) : config_(config) {
  require(config.from > 0 && config.from < config.to && std::isfinite(config.to),
          "[lr_range_test] expected rates 0 < from < to, got ", config.from, " and ", config.to);
  require(config.steps >= 2, "[lr_range_test] expected at least 2 steps, got ", config.steps);
  require(config.smoothing >= 0 && config.smoothing < 1 && config.stop_factor > 1,
          "[lr_range_test] expected smoothing in [0, 1) and a stop factor above 1, got ",
          config.smoothing, " and ", config.stop_factor);
}

Schedule LrRangeTest::schedule() const {
  return std::function<double(Step)>([c = config_](Step step) {
    const double way = static_cast<double>(step.value) / static_cast<double>(c.steps - 1);
    return c.from * std::pow(c.to / c.from, way);
  });
}

bool LrRangeTest::update(const StepReport& report) {
  require_order(!divergence_,
                "[lr_range_test] expected no step after the divergence, got one; stop there");
  if (report.skipped || !std::isfinite(report.mean_loss)) {
    divergence_ = report.learning_rate;
    return false;
  }
  average_ += (1 - config_.smoothing) * (report.mean_loss - average_);
  weight_ += (1 - config_.smoothing) * (1 - weight_);
  points_.push_back({report.learning_rate, report.mean_loss, average_ / weight_});
  if (points_.back().smoothed < points_[best_].smoothed) best_ = points_.size() - 1;
  if (points_.back().smoothed > config_.stop_factor * points_[best_].smoothed)
    divergence_ = report.learning_rate;
  return !divergence_ && static_cast<int64_t>(points_.size()) < config_.steps;
}

std::optional<double> LrRangeTest::steepest() const {
  // Wide differences: those of neighbours would find the noisiest step.
  const size_t reach = std::max<size_t>(points_.size() / 20, 1);
  std::optional<double> rate;
  double most = 0;
  for (size_t i = reach; i + reach < points_.size() && i <= best_; ++i) {
    const Point &before = points_[i - reach], &after = points_[i + reach];
    const double fall = (before.smoothed - after.smoothed) / std::log10(after.rate / before.rate);
    if (fall <= most) continue;
    most = fall;
    rate = points_[i].rate;
  }
  return rate;
}

}  // namespace accrue
