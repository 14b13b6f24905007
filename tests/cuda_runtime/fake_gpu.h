// A GPU without kernels, on the host, for what cuda/ does around its kernels: memory, streams,
// events, errors.
#pragma once
#include <map>
#include <string>

#include "cuda_runtime/cuda_runtime_api.h"

/// What a test arranges, and what it finds.
struct FakeGpu {
  int driver = CUDART_VERSION, devices = 1, ordinal = 0, major = 9, minor = 0;
  cudaError_t probe = cudaSuccess;
  size_t memory = size_t{1} << 30, used = 0;  // of the device, in bytes

  /// The next call of this name fails with this, once.
  std::string failing{};
  cudaError_t with = cudaSuccess;
  /// A device that failed: every call reports it.
  cudaError_t lost = cudaSuccess;

  /// Two extremes of a device's pace. Eager: work is done as soon as it is enqueued. Else none is
  /// done before somebody waits for it, and then no more than that takes.
  bool eager = false;

  cudaError_t last = cudaSuccess;
  std::map<std::string, int> calls{};
};
extern FakeGpu gpu;

/// Enqueued and not yet done.
size_t pending();
/// Does it all, of the stream that was made last first.
void finish_all();
