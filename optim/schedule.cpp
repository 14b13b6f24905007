#include "accrue/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "accrue/core/error.h"

namespace accrue {
namespace {

// `shape` falls from 1 to 0 while the part of the way that is done rises from 0 to 1.
Schedule decay(double peak, Step warmup, Step total, double floor, double (*shape)(double)) {
  require(warmup.value >= 0 && total >= warmup,
          "[schedule] expected 0 ≤ warmup ≤ total, got warmup ", warmup.value, " and total ",
          total.value);
  const double length = static_cast<double>(std::max<int64_t>(total.value - warmup.value, 1));
  return warm_up(warmup, peak, std::function<double(Step)>([=](Step since) {
                   const double done = std::min(1.0, static_cast<double>(since.value) / length);
                   return floor + (peak - floor) * shape(done);
                 }));
}

}  // namespace

Schedule warm_up(Step warmup, double peak, Schedule after) {
  return std::function<double(Step)>([=](Step step) {
    if (step < warmup)
      return peak * static_cast<double>(step.value + 1) / static_cast<double>(warmup.value);
    return after(Step{step.value - warmup.value});
  });
}

Schedule cosine(double peak, Step warmup, Step total, double floor) {
  return decay(peak, warmup, total, floor,
               [](double done) { return (1 + std::cos(std::numbers::pi * done)) / 2; });
}

Schedule linear(double peak, Step warmup, Step total, double floor) {
  return decay(peak, warmup, total, floor, [](double done) { return 1 - done; });
}

}  // namespace accrue
