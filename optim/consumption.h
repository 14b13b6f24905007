// When an optimizer reads gradients, if not at close.
#pragma once
#include <memory>
#include <vector>

#include "accrue/optim/optimizers.h"

namespace accrue {

/// Steps each parameter in the backward of the cycle's last micro-batch, after its last use and its
/// last deposit; step() does the rest and advances Step. The bits are those of a step at close.
/// Saves one sweep over all sums; frees nothing, since a cycle's sums are needed until then. The
/// optimizers must outlive the cycle. Refused with a clip by the global norm, skip_non_finite, a
/// loss scale and filters. Source: "optimizer step in backward" and LOMO, arXiv 2306.09782, here
/// for K > 1.
std::shared_ptr<Consumption> in_backward(std::vector<Optimizer*> optimizers);

/// AdamA: an accumulator that holds no gradient. Each micro-batch's mean gradient part ĝ_k = g_k/Z
/// is folded into the moments: m += (1−β₁)ĝ_k, v += (1−β₂)·Kᵖ·ĝ_k². m is Adam's; v is not, it sums
/// squares where Adam squares the sum. p = 0: AdamA (Zhang et al., arXiv 2305.19982); p = 1:
/// batch-size-invariant Adam (Wang & Aitchison, arXiv 2402.18824). Z is the batch's declared
/// count(). The optimizer must outlive the cycle. Refused with a clip by the global norm,
/// skip_non_finite and a loss scale; a cycle that is discarded has changed the moments.
std::shared_ptr<const Accumulator> into_moments(Adam& adam, double exponent = 0);

}  // namespace accrue
