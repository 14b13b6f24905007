// What else to change when the batch changes from B to κB.
#pragma once
#include "accrue/optim/schedule.h"

namespace accrue {

/// How the learning rate follows the batch: not at all; ·κ, which is right for SGD below the noise
/// scale (Goyal et al., arXiv 1706.02677); ·√κ, for Adam (Malladi et al., arXiv 2205.10287).
enum class RateRule : uint8_t { none, linear, square_root };

/// κ to the rule's power.
double rate_factor(RateRule rule, double kappa);

/// lr(step) · rate_factor(rule, batch(step)/reference): `lr` is meant for batches of `reference`.
Schedule scaled_rate(Schedule lr, RateRule rule, double reference, Schedule batch);

/// β′ = β^(to/from): the decay per step that keeps the moment's half-life in samples when the batch
/// goes from `from` to `to`. Source: Marek et al., arXiv 2507.07101.
double scaled_beta(double beta, double from, double to);

/// The half-life that `beta` per step of `batch` counts has, in counts: batch·ln ½ / ln β. For
/// AdamConfig::beta2_half_life. Throws BadArgument unless 0 < beta < 1.
double half_life(double beta, double batch);

}  // namespace accrue
