// Sums and maxima within a block, in an order that is fixed, and the last pass over partial sums.
#pragma once
#include "accrue/cuda/check.h"
#include "accrue/cuda/plans.h"
#include "accrue/cuda/runtime.h"
#include "accrue/cuda/vector.cuh"

namespace accrue::cuda {

struct Add {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Greater {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

/// The same in every lane.
template <class T, class Join = Add>
__device__ inline T warp_join(T value, Join join = {}) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2)
    value = join(value, __shfl_xor_sync(0xffffffffu, value, step));
  return value;
}

/// The same in every thread. `shared` has one T for each warp; all threads must come. Blocks of one
/// warp need no barrier.
template <class T, class Join = Add>
__device__ inline T block_join(T value, T* shared, Join join = {}) {
  value = warp_join(value, join);
  const int warps = static_cast<int>(blockDim.x) / 32;
  if (warps == 1) return value;
  __syncthreads();  // of the previous use of `shared`
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  T total = shared[0];
  for (int w = 1; w < warps; ++w) total = join(total, shared[w]);
  return total;
}

constexpr int last_threads = 1024;

/// result = or += Σ of n partial sums, by one block.
template <class T>
__global__ void __launch_bounds__(last_threads)
    last_sum_kernel(const T* partials, int64_t n, void* result, DType dtype, bool add) {
  __shared__ T shared[last_threads / 32];
  T sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += last_threads) sum += partials[i];
  sum = block_join(sum, shared);
  if (threadIdx.x == 0) put_any(result, 0, dtype, sum, add);
}
template <class T>
void last_sum(const T* partials, int64_t n, const Out& result, Write write) {
  last_sum_kernel<<<1, last_threads, 0, stream()>>>(partials, n, result.data, result.dtype,
                                                    write == Write::add);
  CUDA_CHECK_LAUNCH(last_sum_kernel);
}

/// Where column sums go; absent: nowhere.
struct ColumnPlace {
  void* data = nullptr;
  DType dtype = DType::f32;
  bool add = false;

  ColumnPlace() = default;
  ColumnPlace(const Out& out, Write write)
      : data(out.data), dtype(out.dtype), add(write == Write::add) {}
  template <class Wide>
  __device__ void put(int64_t column, Wide value) const {
    if (data) put_any(data, column, dtype, value, add);
  }
};

/// places[y][c] = or += Σ_i partials[y][i, c] for y of one or two; 32 columns per block, each by 32
/// threads.
template <class T>
__global__ void __launch_bounds__(1024)
    last_columns_kernel(const T* partials, int64_t count, int64_t columns, ColumnPlace first,
                        ColumnPlace second) {
  __shared__ T shared[32][33];
  const int64_t column = static_cast<int64_t>(blockIdx.x) * 32 + threadIdx.x;
  const ColumnPlace place = blockIdx.y == 0 ? first : second;
  const T* from = partials + blockIdx.y * count * columns + column;
  T sum = 0;
  if (column < columns) {
#pragma unroll 4
    for (int64_t i = threadIdx.y; i < count; i += 32) sum += from[i * columns];
  }
  shared[threadIdx.x][threadIdx.y] = sum;  // a row of `shared` for each column
  __syncthreads();
  sum = warp_join(shared[threadIdx.y][threadIdx.x]);
  const int64_t own = static_cast<int64_t>(blockIdx.x) * 32 + threadIdx.y;
  if (threadIdx.x == 0 && own < columns) place.put(own, sum);
}
template <class T>
void last_columns(const T* partials, int64_t count, int64_t columns, const ColumnPlace& first,
                  const ColumnPlace& second = {}) {
  const dim3 grid(static_cast<uint32_t>(ceil_div(columns, 32)), second.data ? 2 : 1);
  last_columns_kernel<<<grid, dim3(32, 32), 0, stream()>>>(partials, count, columns, first, second);
  CUDA_CHECK_LAUNCH(last_columns_kernel);
}

}  // namespace accrue::cuda
