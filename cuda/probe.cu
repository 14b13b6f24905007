// A kernel that does nothing: whether this binary has code for the device.
#include "accrue/cuda/probe.h"

namespace accrue::cuda {
namespace {

__global__ void probe_kernel() {}

}  // namespace

cudaError_t probe() {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, probe_kernel);
}

}  // namespace accrue::cuda
