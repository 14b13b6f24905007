// Copies to the device on a stream of their own, beside the kernels on stream().
#pragma once
#include <memory>

#include "accrue/core/graph.h"

namespace accrue::cuda {

/// `device` must have been allocated by now: the copy runs after what still uses its memory.
std::unique_ptr<Upload> make_upload(void* device, size_t bytes);

}  // namespace accrue::cuda
