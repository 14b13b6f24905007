// Dot: Σ a·b over many tensors in f64, by a tree that depends on their sizes alone.
#include "accrue/cuda/dispatch.h"
#include "accrue/cuda/kernels.h"
#include "accrue/cuda/reduce.cuh"

namespace accrue::cuda {
namespace {

constexpr int capacity = 384;
constexpr int64_t chunk = 16384;  // elements of one partial sum

struct Pair {
  const void *a, *b;
  int64_t elements;
  DType a_type, b_type;
  bool vectors;  // of one dtype, and aligned
};
using Pairs = ItemTable<Pair, capacity>;

/// Σ a·b of a thread's elements in [first, last), V at a time.
template <class T>
__device__ double dot_vectors(const T* a, const T* b, int64_t first, int64_t last) {
  constexpr int V = full_width<T>;
  const int64_t whole = first + (last - first) / V * V;
  double sum = 0;
#pragma unroll 4
  for (int64_t i = first + threadIdx.x * V; i < whole; i += threads * V) {
    Words<T, V> in_a, in_b;
    in_a.load(a + i);
    if (a == b)
      in_b = in_a;
    else
      in_b.load(b + i);
    WideOf<T> x[V], y[V];
    in_a.widen(x);
    in_b.widen(y);
#pragma unroll
    for (int v = 0; v < V; ++v) sum += static_cast<double>(x[v]) * static_cast<double>(y[v]);
  }
  if (whole + threadIdx.x < last) {
    const int64_t i = whole + threadIdx.x;
    sum += static_cast<double>(widen(a[i])) * static_cast<double>(widen(b[i]));
  }
  return sum;
}

__device__ double dot_any(const Pair& pair, int64_t first, int64_t last) {
  double sum = 0;
  for (int64_t i = first + threadIdx.x; i < last; i += threads)
    sum += load_any<double>(pair.a, i, pair.a_type) * load_any<double>(pair.b, i, pair.b_type);
  return sum;
}

template <class T>
__device__ double dot_as(const Pair& pair, int64_t first, int64_t last) {
  return dot_vectors(static_cast<const T*>(pair.a), static_cast<const T*>(pair.b), first, last);
}

__global__ void __launch_bounds__(threads, 4)
    dot_kernel(const __grid_constant__ Pairs pairs, double* partials) {
  __shared__ double shared[threads / 32];
  const int item = pairs.find(blockIdx.x);
  const Pair& pair = pairs.items[item];
  const int64_t first = static_cast<int64_t>(blockIdx.x - pairs.first_chunk[item]) * chunk;
  const int64_t last = first + chunk < pair.elements ? first + chunk : pair.elements;
  double sum;
  if (!pair.vectors)
    sum = dot_any(pair, first, last);
  else if (pair.a_type == DType::f32)
    sum = dot_as<float>(pair, first, last);
  else if (pair.a_type == DType::bf16)
    sum = dot_as<BFloat16>(pair, first, last);
  else if (pair.a_type == DType::f16)
    sum = dot_as<Float16>(pair, first, last);
  else
    sum = dot_as<double>(pair, first, last);
  sum = block_join(sum, shared);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

int64_t chunks_of(const In& x) { return ceil_div(x.shape.elements(), chunk); }

}  // namespace

size_t dot_workspace(const kernel::Dot& args) {
  int64_t chunks = 0;
  for (const In& x : args.a) chunks += chunks_of(x);
  return chunks * sizeof(double);
}

void dot(const kernel::Dot& args, void* workspace) {
  double* partials = static_cast<double*>(workspace);
  int64_t before = 0;
  const auto pair_of = [&](int64_t i) {
    const In &a = args.a[i], &b = args.b[i];
    const size_t size = size_of(a.dtype);
    const int width = 16 / static_cast<int>(size);
    const bool vectors =
        a.dtype == b.dtype && is_aligned(a.data, size, width) && is_aligned(b.data, size, width);
    return Pair{a.data, b.data, a.shape.elements(), a.dtype, b.dtype, vectors};
  };
  for_tables<Pair, capacity>(static_cast<int64_t>(args.a.size()), chunk, pair_of,
                             [&](const Pairs& pairs, uint32_t chunks) {
                               dot_kernel<<<chunks, threads, 0, stream()>>>(pairs,
                                                                            partials + before);
                               CUDA_CHECK_LAUNCH(dot_kernel);
                               before += chunks;
                             });
  last_sum(partials, before, args.result, Write::set);
}

}  // namespace accrue::cuda
