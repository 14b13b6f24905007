// What kernels of cuda/ use of CUDA, on the host: see grid.h. In the place of CUDA's own header.
#pragma once
#include <math.h>

#include <bit>
#include <cstdint>
#include <cstring>

#include "cuda/on_host/grid.h"

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static  // blocks run one after another

using cudaError_t = int;
constexpr cudaError_t cudaSuccess = 0;
inline cudaError_t cudaGetLastError() { return cudaSuccess; }

using cudaStream_t = struct HostStream*;
using cudaEvent_t = struct HostEvent*;
inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }

enum cudaMemcpyKind { cudaMemcpyDeviceToDevice };
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                                   cudaStream_t) {
  std::memmove(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  std::memset(to, value, bytes);
  return cudaSuccess;
}

struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};

inline float __uint_as_float(uint32_t bits) { return std::bit_cast<float>(bits); }
inline double __longlong_as_double(long long bits) { return std::bit_cast<double>(bits); }

using on_host::blockDim;
using on_host::blockIdx;
using on_host::dim3;
using on_host::gridDim;
using on_host::threadIdx;
inline void __syncthreads() { on_host::sync(); }
template <class T>
T __shfl_xor_sync(uint32_t, T value, int bits) {
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof value);
  word = on_host::exchange(word, bits);
  std::memcpy(&value, &word, sizeof value);
  return value;
}
