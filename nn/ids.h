// Checks of token ids before a kernel uses them as places in memory.
#pragma once
#include "accrue/core/kernels.h"

namespace accrue {

/// Throws BadArgument, naming the position, on an id outside [0, limit) that is not `ignore`. ids
/// i32. Where the host cannot read them they are judged by their bounds when they came from there,
/// without waiting for the device; what a kernel wrote there is not checked, nor is a dry run.
void check_ids(const char* name, const Tensor& ids, int64_t limit, int64_t ignore = 0);

}  // namespace accrue
