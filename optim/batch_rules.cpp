#include "accrue/optim/batch_rules.h"

#include <cmath>
#include <numbers>

#include "accrue/core/error.h"

namespace accrue {

double rate_factor(RateRule rule, double kappa) {
  switch (rule) {
    case RateRule::linear:
      return kappa;
    case RateRule::square_root:
      return std::sqrt(kappa);
    default:
      return 1;
  }
}

Schedule scaled_rate(Schedule lr, RateRule rule, double reference, Schedule batch) {
  require(reference > 0, "[scaled_rate] expected a reference batch above 0, got ", reference);
  return std::function<double(Step)>(
      [=](Step step) { return lr(step) * rate_factor(rule, batch(step) / reference); });
}

double scaled_beta(double beta, double from, double to) {
  require(beta >= 0 && beta < 1 && from > 0 && to > 0,
          "[scaled_beta] expected beta in [0, 1) and batches above 0, got ", beta, ", ", from,
          " and ", to);
  return std::pow(beta, to / from);
}

double half_life(double beta, double batch) {
  require(beta > 0 && beta < 1 && batch > 0,
          "[half_life] expected beta in (0, 1) and a batch above 0, got ", beta, " and ", batch);
  return -std::numbers::ln2 * batch / std::log(beta);
}

}  // namespace accrue
