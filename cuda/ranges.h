// Named ranges on the timeline of NVIDIA's profilers.
#pragma once
#include "accrue/core/graph.h"

namespace accrue::cuda {

/// Null where no profiler listens as the program begins.
const RangeCalls* range_calls();

}  // namespace accrue::cuda
