// LayerNorm and RMSNorm: a row is read once and kept in registers, where it fits.
#include "accrue/cuda/norm.cuh"

namespace accrue::cuda {
namespace {

template <class T>
struct NormArgs {
  const T *x, *gamma, *beta, *branch;  // the last two may be null, as may the sum
  T *y, *sum;
  WideOf<T>* statistics;
  int64_t rows, columns;
  WideOf<T> epsilon;
  bool centered;
};

__device__ inline float inverse_root(float x) { return 1 / sqrtf(x); }
__device__ inline double inverse_root(double x) { return 1 / sqrt(x); }

/// x becomes x + branch, as it is stored in the sum; `start` is the row's first element.
template <class T, class Column, int K, int V>
__device__ inline void add_branch(const NormArgs<T>& a, int64_t start, const Column& column,
                                  WideOf<T> (&x)[K][V]) {
#pragma unroll
  for (int k = 0; k < K; ++k) {
    if (column(k) >= a.columns) continue;
    WideOf<T> branch[V];
    load<V>(a.branch + start + column(k), branch);
#pragma unroll
    for (int v = 0; v < V; ++v) x[k][v] = widen(narrow<T>(x[k][v] + branch[v]));
    store<V>(a.sum + start + column(k), x[k]);
  }
}

template <class T, int K, bool one_warp>
__global__ void __launch_bounds__(NormPlan::block) norm_kernel(const NormArgs<T> a) {
  using Wide = WideOf<T>;
  constexpr int V = full_width<T>, threads = one_warp ? 32 : NormPlan::block;
  constexpr int rows_per_block = NormPlan::block / threads;
  __shared__ Wide shared[NormPlan::block / 32];
  const int thread = threadIdx.x % threads;
  const int64_t row = blockIdx.x * int64_t{rows_per_block} + threadIdx.x / threads;
  if (row >= a.rows) return;  // a whole warp, or a whole block
  const auto column = [&](int k) { return (k * threads + thread) * V; };

  Wide x[K][V];
#pragma unroll
  for (int k = 0; k < K; ++k) {
    if (column(k) >= a.columns)
      for (int v = 0; v < V; ++v) x[k][v] = 0;
    else
      load<V>(a.x + row * a.columns + column(k), x[k]);
  }
  if (a.branch) add_branch(a, row * a.columns, column, x);
  Wide sum = 0;
#pragma unroll
  for (int k = 0; k < K; ++k)
#pragma unroll
    for (int v = 0; v < V; ++v) sum += x[k][v];
  const Wide count = static_cast<Wide>(a.columns);
  const Wide mean = a.centered ? row_sum<one_warp>(sum, shared) / count : Wide{0};
  Wide squares = 0;
#pragma unroll
  for (int k = 0; k < K; ++k)
#pragma unroll
    for (int v = 0; v < V; ++v) {
      x[k][v] -= mean;
      squares += column(k) < a.columns ? x[k][v] * x[k][v] : Wide{0};
    }
  const Wide inverse = inverse_root(row_sum<one_warp>(squares, shared) / count + a.epsilon);

#pragma unroll
  for (int k = 0; k < K; ++k) {
    if (column(k) >= a.columns) continue;
    Wide gamma[V], beta[V] = {};
    load<V>(a.gamma + column(k), gamma);
    if (a.beta) load<V>(a.beta + column(k), beta);
#pragma unroll
    for (int v = 0; v < V; ++v) x[k][v] = x[k][v] * inverse * gamma[v] + beta[v];
    store<V>(a.y + row * a.columns + column(k), x[k]);
  }
  if (thread == 0) {
    a.statistics[2 * row] = mean;
    a.statistics[2 * row + 1] = inverse;
  }
}

/// Any number of columns and any address: three passes over the row, which stays in the cache.
template <class T>
__global__ void __launch_bounds__(NormPlan::block) norm_any_kernel(const NormArgs<T> a) {
  using Wide = WideOf<T>;
  __shared__ Wide shared[NormPlan::block / 32];
  const int64_t row = blockIdx.x;
  const T* x = a.x + row * a.columns;
  const Wide count = static_cast<Wide>(a.columns);
  const auto columns = [&](const auto& body) {
#pragma unroll 4
    for (int64_t c = threadIdx.x; c < a.columns; c += blockDim.x) body(c);
  };
  if (a.branch) {  // each thread reads back only what it wrote
    columns([&](int64_t c) {
      const int64_t at = row * a.columns + c;
      a.sum[at] = narrow<T>(static_cast<Wide>(widen(x[c])) + widen(a.branch[at]));
    });
    x = a.sum + row * a.columns;
  }
  Wide sum = 0, squares = 0;
  if (a.centered) columns([&](int64_t c) { sum += widen(x[c]); });
  const Wide mean = a.centered ? block_join(sum, shared) / count : Wide{0};
  columns([&](int64_t c) {
    const Wide from_mean = widen(x[c]) - mean;
    squares += from_mean * from_mean;
  });
  const Wide inverse = inverse_root(block_join(squares, shared) / count + a.epsilon);
  columns([&](int64_t c) {
    const Wide beta = a.beta ? widen(a.beta[c]) : Wide{0};
    a.y[row * a.columns + c] =
        narrow<T>((widen(x[c]) - mean) * inverse * static_cast<Wide>(widen(a.gamma[c])) + beta);
  });
  if (threadIdx.x == 0) {
    a.statistics[2 * row] = mean;
    a.statistics[2 * row + 1] = inverse;
  }
}

template <class T>
void norm_as(const kernel::Norm& args) {
  using Wide = WideOf<T>;
  const int64_t columns = args.gamma.shape.elements();
  const int64_t rows = columns ? args.x.shape.elements() / columns : 0;
  if (rows == 0) return;
  constexpr int V = full_width<T>;
  bool aligned = true;  // as what is absent is
  for (const void* data : {args.x.data, args.gamma.data, args.beta.data, args.branch.data,
                           In(args.y).data, In(args.sum).data})
    aligned = aligned && is_aligned(data, sizeof(T), V);
  const NormPlan plan(rows, columns, sizeof(T), aligned);
  const NormArgs<T> a{static_cast<const T*>(args.x.data),
                      static_cast<const T*>(args.gamma.data),
                      static_cast<const T*>(args.beta.data),
                      static_cast<const T*>(args.branch.data),
                      static_cast<T*>(args.y.data),
                      static_cast<T*>(args.sum.data),
                      static_cast<Wide*>(args.statistics.data),
                      rows,
                      columns,
                      static_cast<Wide>(args.epsilon),
                      args.centered};
  const auto blocks = static_cast<uint32_t>(ceil_div(rows, plan.rows_per_block()));
  if (plan.vectors == 0) {
    const int threads = columns <= 128 ? 32 : NormPlan::block;
    norm_any_kernel<T><<<blocks, threads, 0, stream()>>>(a);
    CUDA_CHECK_LAUNCH(norm_any_kernel);
    return;
  }
  with_vectors(plan.vectors, [&]<class K>(K) {
    with_bool(plan.one_warp, [&]<class One>(One) {
      norm_kernel<T, K::value, One::value><<<blocks, NormPlan::block, 0, stream()>>>(a);
      CUDA_CHECK_LAUNCH(norm_kernel);
    });
  });
}

}  // namespace

void norm(const kernel::Norm& args, void*) {
  with_float(args.x.dtype, [&]<class T>(T) { norm_as<T>(args); });
}

}  // namespace accrue::cuda
