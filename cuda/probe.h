// Whether this binary has code for the device.
#pragma once
#include <cuda_runtime_api.h>

namespace accrue::cuda {

/// An error where the device's architecture was not compiled in.
cudaError_t probe();

}  // namespace accrue::cuda
