// Matrix products of the `cuda` backend: what a program may choose about them.
#pragma once
#include "accrue/core/kernels.h"

namespace accrue::cuda {

/// Whether products of f32 matrices may round their factors to tf32 (10 bits of significand beside
/// f32's exponent) to run on tensor cores; sums stay f32. For the whole process; off at first.
void allow_tf32(bool allowed);
bool tf32_is_allowed();
/// Whether cuBLASLt applies the slope within this product; else it is a kernel of its own.
bool fuses_slope(const kernel::MatmulUnaryBackward&);

}  // namespace accrue::cuda
