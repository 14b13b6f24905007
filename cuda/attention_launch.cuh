// Launches of attention's kernels, with as much shared memory as they ask for.
#pragma once
#include "accrue/cuda/attention_args.h"
#include "accrue/cuda/attention_layout.h"
#include "accrue/cuda/check.h"
#include "accrue/cuda/device_lanes.h"
#include "accrue/cuda/runtime.h"

namespace accrue::cuda {

__device__ __forceinline__ unsigned char* shared_memory() {
  extern __shared__ __align__(128) unsigned char shared[];
  return shared;
}

/// Enqueues kernel(args) on stream().
template <auto kernel, class Args>
void launch_blocks(int64_t blocks, int threads, size_t shared, const Args& args) {
  constexpr size_t always = 48 * 1024;  // what a kernel may have without asking
  if (shared > always) {
    static const bool asked = [shared] {
      CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(shared)));
      return true;
    }();
    static_cast<void>(asked);
  }
  kernel<<<static_cast<unsigned>(blocks), threads, shared, stream()>>>(args);
  CUDA_CHECK_LAUNCH(kernel);
}

}  // namespace accrue::cuda
