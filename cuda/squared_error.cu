// The squared error, and CountTargets: two passes, over chunks and over their sums.
#include "accrue/cuda/dispatch.h"
#include "accrue/cuda/each.cuh"
#include "accrue/cuda/kernels.h"
#include "accrue/cuda/reduce.cuh"

namespace accrue::cuda {
namespace {

constexpr int64_t chunk = 8192;  // elements of one partial sum

int64_t chunks_of(const In& x) { return ceil_div(x.shape.elements(), chunk); }

__device__ int64_t end_of_chunk(int64_t n) {
  const int64_t end = (blockIdx.x + int64_t{1}) * chunk;
  return end < n ? end : n;
}

__global__ void __launch_bounds__(threads)
    count_kernel(const int32_t* targets, int64_t n, int64_t ignore, int64_t* partials) {
  __shared__ int64_t shared[threads / 32];
  int64_t count = 0;
#pragma unroll 8
  for (int64_t i = blockIdx.x * chunk + threadIdx.x; i < end_of_chunk(n); i += threads)
    count += targets[i] != ignore;
  count = block_join(count, shared);
  if (threadIdx.x == 0) partials[blockIdx.x] = count;
}

/// Σ (x − target)², in f64 from the difference on.
template <class T, int V>
__global__ void __launch_bounds__(threads)
    squared_error_kernel(const T* x, const T* target, int64_t n, double* partials) {
  __shared__ double shared[threads / 32];
  const int64_t first = blockIdx.x * chunk, last = end_of_chunk(n);
  const int64_t whole = first + (last - first) / V * V;
  const auto squared = [](WideOf<T> a, WideOf<T> b) {
    const double error = static_cast<double>(a) - static_cast<double>(b);
    return error * error;
  };
  double sum = 0;
#pragma unroll 2
  for (int64_t i = first + threadIdx.x * V; i < whole; i += threads * V) {
    WideOf<T> a[V], b[V];
    load<V>(x + i, a);
    load<V>(target + i, b);
#pragma unroll
    for (int v = 0; v < V; ++v) sum += squared(a[v], b[v]);
  }
  if (whole + threadIdx.x < last)
    sum += squared(widen(x[whole + threadIdx.x]), widen(target[whole + threadIdx.x]));
  sum = block_join(sum, shared);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

/// dx = or += factor·2·(x − target).
template <class Wide>
struct SquaredSlope {
  Scalar factor;
  bool add;
  Wide twice{};
  __device__ void begin() { twice = static_cast<Wide>(2 * factor.value<double>()); }
  __device__ void operator()(Wide& dx, Wide x, Wide target) const {
    const Wide value = twice * (x - target);
    dx = add ? dx + value : value;
  }
};

}  // namespace

size_t count_targets_workspace(const kernel::CountTargets& args) {
  return chunks_of(args.targets) * sizeof(int64_t);
}

void count_targets(const kernel::CountTargets& args, void* workspace) {
  const int64_t chunks = chunks_of(args.targets);
  int64_t* partials = static_cast<int64_t*>(workspace);
  if (chunks > 0) {
    count_kernel<<<static_cast<uint32_t>(chunks), threads, 0, stream()>>>(
        static_cast<const int32_t*>(args.targets.data), args.targets.shape.elements(), args.ignore,
        partials);
    CUDA_CHECK_LAUNCH(count_kernel);
  }
  last_sum(partials, chunks, args.count, Write::set);
}

size_t squared_error_workspace(const kernel::SquaredError& args) {
  return chunks_of(args.x) * sizeof(double);
}

void squared_error(const kernel::SquaredError& args, void* workspace) {
  const int64_t chunks = chunks_of(args.x);
  double* partials = static_cast<double*>(workspace);
  with_float(args.x.dtype, [&]<class T>(T) {
    constexpr int width = full_width<T>;
    const bool vectors =
        is_aligned(args.x.data, sizeof(T), width) && is_aligned(args.target.data, sizeof(T), width);
    with_bool(vectors && chunks > 0, [&]<class Vectors>(Vectors) {
      if (chunks == 0) return;
      squared_error_kernel<T, Vectors::value ? width : 1>
          <<<static_cast<uint32_t>(chunks), threads, 0, stream()>>>(
              static_cast<const T*>(args.x.data), static_cast<const T*>(args.target.data),
              args.x.shape.elements(), partials);
      CUDA_CHECK_LAUNCH(squared_error_kernel);
    });
  });
  last_sum(partials, chunks, args.loss, Write::set);
}

void squared_error_backward(const kernel::SquaredErrorBackward& args, void*) {
  const bool add = args.dx.write == Write::add;
  with_float(args.x.dtype, [&]<class T>(T) {
    const SquaredSlope<WideOf<T>> formula{Scalar(args.factor), add};
    each<1, WideOf<T>, false>(Types<T, T, T>(), formula, args.x.shape,
                              {args.dx.into, args.x, args.target}, add);
  });
}

}  // namespace accrue::cuda
