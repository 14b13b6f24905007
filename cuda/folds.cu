// The stochastic and the fixed-point fold.
#include "accrue/core/functors/folds.h"

#include "accrue/cuda/dispatch.h"
#include "accrue/cuda/kernels.h"
#include "accrue/cuda/reduce.cuh"

namespace accrue::cuda {
namespace {

/// Eight elements per thread: one draw has 16 bits for each.
template <class T, bool vectors>
__global__ void __launch_bounds__(threads)
    stochastic_kernel(const T* x, BFloat16* sums, int64_t n, bool add, RandomKey key) {
  const int64_t eight = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  const int64_t first = eight * 8;
  if (first >= n) return;
  float before[8] = {}, terms[8] = {};
  if constexpr (vectors) {
    load<8>(x + first, terms);
    if (add) load<8>(sums + first, before);
  } else {
    for (int i = 0; i < 8 && first + i < n; ++i) {
      terms[i] = static_cast<float>(widen(x[first + i]));
      if (add) before[i] = widen(sums[first + i]);
    }
  }
  const std::array<uint32_t, 4> draws = key.draw(0, static_cast<uint64_t>(eight));
  BFloat16 rounded[8];
#pragma unroll
  for (int i = 0; i < 8; ++i)
    rounded[i] =
        fold::round_stochastically(before[i] + terms[i], draws[i / 2] >> 16 * (i % 2) & 0xffff);
  if constexpr (vectors) {
    Words<BFloat16, 8> words;
    std::memcpy(words.word, rounded, sizeof rounded);
    words.store(sums + first);
  } else {
    for (int i = 0; i < 8 && first + i < n; ++i) sums[first + i] = rounded[i];
  }
}

constexpr int each_thread = 8;
constexpr int64_t chunk = threads * each_thread;  // elements of one block

/// totals = or += x·factor as whole numbers; the block's max |x| beside them.
template <class T>
__global__ void __launch_bounds__(threads)
    fixed_point_kernel(const T* x, int64_t* totals, int64_t n, bool add, double factor,
                       double* largest) {
  __shared__ double shared[threads / 32];
  const int64_t first = blockIdx.x * chunk + threadIdx.x;
  double terms[each_thread];
  uint64_t before[each_thread] = {};
#pragma unroll
  for (int u = 0; u < each_thread; ++u) {
    const int64_t i = first + u * threads;
    terms[u] = i < n ? static_cast<double>(widen(x[i])) : 0;
    if (add && i < n) before[u] = static_cast<uint64_t>(totals[i]);
  }
  double most = 0;
#pragma unroll
  for (int u = 0; u < each_thread; ++u) {
    const int64_t i = first + u * threads;
    const double size = isfinite(terms[u]) ? fabs(terms[u]) : __longlong_as_double(0x7ffull << 52);
    most = size > most ? size : most;
    const uint64_t term = static_cast<uint64_t>(fold::fixed_point_term(terms[u], factor));
    if (i < n) totals[i] = static_cast<int64_t>(before[u] + term);
  }
  most = block_join(most, shared, Greater());
  if (threadIdx.x == 0) largest[blockIdx.x] = most;
}

__global__ void __launch_bounds__(last_threads)
    last_largest_kernel(const double* partials, int64_t n, double* largest, bool add) {
  __shared__ double shared[last_threads / 32];
  double most = add ? *largest : 0;
  for (int64_t i = threadIdx.x; i < n; i += last_threads)
    most = partials[i] > most ? partials[i] : most;
  most = block_join(most, shared, Greater());
  if (threadIdx.x == 0) *largest = most;
}

int64_t chunks_of(const In& x) { return ceil_div(x.shape.elements(), chunk); }

}  // namespace

void stochastic_add(const kernel::StochasticAdd& args, void*) {
  const int64_t n = args.x.shape.elements();
  if (n == 0) return;
  const auto blocks = static_cast<uint32_t>(ceil_div(n, int64_t{8} * threads));
  BFloat16* sums = static_cast<BFloat16*>(args.sum.data);
  with_float(args.x.dtype, [&]<class T>(T) {
    const T* x = static_cast<const T*>(args.x.data);
    const bool vectors = n % 8 == 0 && is_aligned(x, sizeof(T), 8) && is_aligned(sums, 2, 8);
    with_bool(vectors, [&]<class Vectors>(Vectors) {
      stochastic_kernel<T, Vectors::value>
          <<<blocks, threads, 0, stream()>>>(x, sums, n, args.write == Write::add, args.key);
      CUDA_CHECK_LAUNCH(stochastic_kernel);
    });
  });
}

size_t fixed_point_add_workspace(const kernel::FixedPointAdd& args) {
  return chunks_of(args.x) * sizeof(double);
}

void fixed_point_add(const kernel::FixedPointAdd& args, void* workspace) {
  const int64_t n = args.x.shape.elements(), chunks = chunks_of(args.x);
  const bool add = args.write == Write::add;
  double* partials = static_cast<double*>(workspace);
  if (chunks > 0)
    with_float(args.x.dtype, [&]<class T>(T) {
      fixed_point_kernel<T><<<static_cast<uint32_t>(chunks), threads, 0, stream()>>>(
          static_cast<const T*>(args.x.data), static_cast<int64_t*>(args.total.data), n, add,
          args.factor, partials);
      CUDA_CHECK_LAUNCH(fixed_point_kernel);
    });
  last_largest_kernel<<<1, last_threads, 0, stream()>>>(
      partials, chunks, static_cast<double*>(args.largest.data), add);
  CUDA_CHECK_LAUNCH(last_largest_kernel);
}

}  // namespace accrue::cuda
