// Where a cycle's time goes: seconds and calls of each kernel.
#pragma once
#include "accrue/core/kernels.h"

namespace accrue::bench {

/// The device with a clock around every kernel. A GPU is waited for after each, so that they no
/// longer overlap with the host's work.
Device timed_device(Device inner);
/// Forgets what was measured so far.
void reset_profile();
/// Prints kernels by time, and what is left of `total_seconds` for the engine, on stderr.
void print_profile(double total_seconds);

}  // namespace accrue::bench
