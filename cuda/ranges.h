// Named ranges on the timeline of NVIDIA's profilers.
#pragma once
#include "accrue/core/graph.h"

namespace accrue::cuda {

extern const RangeCalls range_calls;

}  // namespace accrue::cuda
