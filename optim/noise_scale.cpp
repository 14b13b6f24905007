#include "accrue/optim/noise_scale.h"

#include <cmath>

#include "accrue/core/error.h"
#include "accrue/optim/visit_number.h"

namespace accrue {

NoiseScale::NoiseScale(double decay) : decay_(decay) {
  require(decay >= 0 && decay < 1, "[noise_scale] expected a decay in [0, 1), got ", decay);
}

void NoiseScale::update(double squared_small, double count_small, double squared_large,
                        double count_large) {
  require(count_small > 0 && count_small < count_large && std::isfinite(count_large),
          "[noise_scale] expected counts 0 < small < large, got ", count_small, " and ",
          count_large, "; a cycle of one micro-batch has no smaller batch to compare with");
  require(std::isfinite(squared_small) && std::isfinite(squared_large),
          "[noise_scale] expected finite squared norms, got ", squared_small, " and ",
          squared_large, "; leave skipped cycles out");
  const double squared_gradient =
      (count_large * squared_large - count_small * squared_small) / (count_large - count_small);
  const double variance = (squared_small - squared_large) / (1 / count_small - 1 / count_large);
  squared_gradient_ += (1 - decay_) * (squared_gradient - squared_gradient_);
  variance_ += (1 - decay_) * (variance - variance_);
  weight_ += (1 - decay_) * (1 - weight_);
}

void NoiseScale::update(const std::optional<Prefix>& prefix, const StepReport& report) {
  if (!prefix || report.skipped || prefix->count >= report.count) return;
  if (!std::isfinite(report.gradient_norm)) return;
  update(prefix->squared_norm, prefix->count, report.gradient_norm * report.gradient_norm,
         report.count);
}

std::optional<double> NoiseScale::value() const {
  if (!(squared_gradient_ > 0 && variance_ > 0)) return std::nullopt;
  return variance_ / squared_gradient_;  // the weight of both is the same
}

void NoiseScale::visit(Visitor& part) {
  visit_number(part, "squared_gradient", squared_gradient_);
  visit_number(part, "variance", variance_);
  visit_number(part, "weight", weight_);
}

}  // namespace accrue
