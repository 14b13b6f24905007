// Where a cycle's time goes: seconds and calls of each kernel of the cpu backend.
#pragma once
#include "accrue/core/kernels.h"

namespace accrue::bench {

/// The cpu backend with a clock around every kernel.
Device timed_device();
/// Forgets what was measured so far.
void reset_profile();
/// Prints kernels by time, and what is left of `total_seconds` for the engine, on stderr.
void print_profile(double total_seconds);

}  // namespace accrue::bench
