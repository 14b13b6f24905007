// Loss scaling: f16 gradients are computed of the loss times a power of two.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>

#include "accrue/core/error.h"

namespace accrue {

struct LossScaleConfig {
  double initial = 65536, growth = 2, backoff = 0.5, smallest = 1;
  int64_t growth_interval = 2000;  // cycles without overflow before it grows
};

/// The factor that a cycle multiplies its loss's gradient with, constant within the cycle. Sums
/// carry it; step() divides it out. A cycle that is skipped shrinks it, as does one of which a
/// filter dropped a micro-batch whose gradient alone was not finite; a run of good ones grows it.
/// Powers of two change no bits where nothing overflows or underflows. Source: Micikevicius et al.,
/// arXiv 1710.03740.
class LossScale {
 public:
  explicit LossScale(LossScaleConfig config = {}) : config_(config), value_(config.initial) {
    require(std::isfinite(config.initial) && config.initial > 0 && config.growth >= 1 &&
                std::isfinite(config.growth) && config.backoff > 0 && config.backoff <= 1 &&
                config.smallest > 0 && config.smallest <= config.initial &&
                config.growth_interval > 0,
            "[loss scale] expected finite initial ≥ smallest > 0, finite growth ≥ 1, backoff in "
            "(0, 1], interval > 0, got ",
            config.initial, ", ", config.growth, ", ", config.backoff, ", ", config.smallest, ", ",
            config.growth_interval);
  }
  double value() const { return value_; }
  /// What ClosedCycle tells it when the cycle ends.
  void update(bool finite) {
    if (!finite) {
      value_ = std::max(value_ * config_.backoff, config_.smallest);
      good_ = 0;
    } else if (++good_ == config_.growth_interval) {
      value_ *= config_.growth;
      good_ = 0;
    }
  }
  template <class V>
  void visit(V& part) {
    // As bits: a checkpoint's integers are exact, its texts need parsing.
    auto bits = std::bit_cast<int64_t>(value_);
    part("value", bits);
    part("good", good_);
    value_ = std::bit_cast<double>(bits);
  }

 private:
  LossScaleConfig config_;
  double value_;
  int64_t good_ = 0;  // cycles since it last changed
};

}  // namespace accrue
