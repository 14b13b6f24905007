// The accumulators that accrue has, and how programs' flags name them.
#pragma once
#include "accrue/autograd/accumulator.h"

namespace accrue {

namespace accumulators {

/// Deposits add in f32 (f64 where the master is f64): error ≤ (K−1)·2⁻²⁴ of Σ|g|. 4 bytes a weight.
std::shared_ptr<const Accumulator> f32();
/// Micro-batches' gradients add in f64: error ≤ K·2⁻⁵³ and one rounding to f32 at the end. 12 bytes
/// a weight.
std::shared_ptr<const Accumulator> f64();
/// Deposits are rounded and add in bf16: error ≤ K·2⁻⁸ of Σ|g|; equal terms stall at 256. To show
/// why not.
std::shared_ptr<const Accumulator> bf16();
/// Each addition is rounded to bf16 up or down with the probability that makes the sum unbiased;
/// random numbers are keyed by seed, parameter, cycle, addition and element. Source: Connolly,
/// Higham, Mary, "Stochastic rounding and its probabilistic backward error analysis", SISC 43,
/// 2021.
std::shared_ptr<const Accumulator> bf16_stochastic(Seed seed = {});
/// Carries each addition's rounding error into the next one: error ≤ (2u + O(K·u²)) of Σ|g|, u =
/// 2⁻²⁴. 8 bytes a weight. Source: Kahan, "Further remarks on reducing truncation errors", CACM 8,
/// 1965.
std::shared_ptr<const Accumulator> kahan();
/// Adds by a fixed binary tree over the micro-batches: by recursive halving where their number is
/// known, else like a binary counter. Error ≤ ⌈log₂K⌉·2⁻²⁴. 4·(⌊log₂K⌋ + 2) bytes a weight.
std::shared_ptr<const Accumulator> tree();
/// Adds integers, gradients times a power of two: any order gives the same bits. A sum that
/// overflows, or units so coarse that the largest |g| loses more than 2⁻²⁴ by them, make the cycle
/// run again with another power. 12 bytes a weight.
std::shared_ptr<const Accumulator> fixed_point();
/// All of them; `seed` is for those that draw random numbers.
std::vector<std::shared_ptr<const Accumulator>> all(Seed seed = {});

/// Accumulators that a program brings along.
using Own = std::vector<std::shared_ptr<const Accumulator>>;
/// By name, of these and of a program's own; throws BadArgument that lists the names.
std::shared_ptr<const Accumulator> named(std::string_view name, const Own& own = {},
                                         Seed seed = {});
/// "kahan" for all, or pairs "name:pattern" with commas between: "kahan:*.ln_1.*,bf16:*".
Accumulators parse(std::string_view choice, const Own& own = {}, Seed seed = {});

}  // namespace accumulators
}  // namespace accrue
