// Schedules: a number as a function of the Step. They take Step and cannot be handed a MicroStep.
#pragma once
#include <functional>

#include "accrue/core/ordinal.h"

namespace accrue {

class Schedule {
 public:
  Schedule(double constant) : at_([constant](Step) { return constant; }) {}
  Schedule(std::function<double(Step)> at) : at_(std::move(at)) {}
  double operator()(Step step) const { return at_(step); }

 private:
  std::function<double(Step)> at_;
};

/// 0 → peak over `warmup` steps (step s gets peak·(s+1)/warmup), then what `after` says for the
/// steps since the end of the warm-up.
Schedule warm_up(Step warmup, double peak, Schedule after);
/// Warm-up, then half a cosine from `peak` down to `floor` at step `total`, and `floor` from there
/// on. Source: Loshchilov & Hutter, arXiv 1608.03983. Throws BadArgument if total < warmup.
Schedule cosine(double peak, Step warmup, Step total, double floor);
/// Warm-up, then a straight line from `peak` down to `floor` at step `total`. Throws as cosine().
Schedule linear(double peak, Step warmup, Step total, double floor);

}  // namespace accrue
