// The gradients of LayerNorm and RMSNorm. With n = (x − μ)·σ⁻¹ and h = gamma·dy:
//   dx = σ⁻¹·(h − E h − n·E(h·n)), without E h where not centered;
//   dgamma = Σ_r dy·n, dbeta = Σ_r dy: each block keeps its rows' sums in registers, a second pass
//   adds the blocks' in order.
#include "accrue/cuda/norm.cuh"

namespace accrue::cuda {
namespace {

template <class T>
struct BackwardArgs {
  const T *x, *gamma, *dy;
  const WideOf<T>* statistics;
  T* dx;                // null: not wanted
  WideOf<T>* partials;  // [2, chunks, C]; null: not wanted
  RowChunks chunks;
  int64_t columns;
  bool add, centered;
};

/// Sums of each column's terms so far, over a block's rows.
template <class Wide, int K, int V>
struct ColumnSums {
  Wide gamma[K][V] = {}, beta[K][V] = {};
};

/// One row: its columns' terms into `sums`, dx into memory.
template <class T, int K, bool one_warp>
__device__ inline void backward_row(const BackwardArgs<T>& a, int64_t row, int thread,
                                    ColumnSums<WideOf<T>, K, full_width<T>>& sums,
                                    WideOf<T>* shared) {
  using Wide = WideOf<T>;
  constexpr int V = full_width<T>, threads = one_warp ? 32 : NormPlan::block;
  const auto column = [&](int k) { return (k * threads + thread) * V; };
  const int64_t start = row * a.columns;
  Words<T, V> x[K], dy[K];
#pragma unroll
  for (int k = 0; k < K; ++k) {
    if (column(k) >= a.columns) continue;
    x[k].load(a.x + start + column(k));
    dy[k].load(a.dy + start + column(k));
  }
  const Wide mean = a.statistics[2 * row], inverse = a.statistics[2 * row + 1];
  Wide sum_h = 0, sum_hn = 0;
#pragma unroll
  for (int k = 0; k < K; ++k) {
    if (column(k) >= a.columns) continue;
    Wide n[V], slope[V], gamma[V];
    x[k].widen(n);
    dy[k].widen(slope);
    load<V>(a.gamma + column(k), gamma);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      n[v] = (n[v] - mean) * inverse;
      sums.gamma[k][v] += slope[v] * n[v];
      sums.beta[k][v] += slope[v];
      const Wide h = slope[v] * gamma[v];
      sum_h += h;
      sum_hn += h * n[v];
    }
  }
  if (!a.dx) return;
  const Wide count = static_cast<Wide>(a.columns);
  const Wide mean_h = a.centered ? row_sum<one_warp>(sum_h, shared) / count : Wide{0};
  const Wide mean_hn = row_sum<one_warp>(sum_hn, shared) / count;
#pragma unroll
  for (int k = 0; k < K; ++k) {
    if (column(k) >= a.columns) continue;
    Wide n[V], slope[V], gamma[V], before[V] = {};
    x[k].widen(n);
    dy[k].widen(slope);
    load<V>(a.gamma + column(k), gamma);
    T* place = a.dx + start + column(k);
    if (a.add) load<V>(place, before);
#pragma unroll
    for (int v = 0; v < V; ++v) {
      n[v] = (n[v] - mean) * inverse;
      const Wide inner = slope[v] * gamma[v] - mean_h - n[v] * mean_hn;
      before[v] += inverse * inner;
    }
    store<V>(place, before);
  }
}

/// Adds up what the warps of a block hold for its columns, warp after warp.
template <int K, int V, class Wide>
__device__ inline void join_warps(Wide (&sums)[K][V], int64_t columns, Wide* shared, Wide* to) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int turn = 0; turn < NormPlan::block / 32; ++turn) {
    if (turn == warp) {
#pragma unroll
      for (int k = 0; k < K; ++k)
#pragma unroll
        for (int v = 0; v < V; ++v) {
          Wide& total = shared[(k * V + v) * 32 + lane];
          total = turn == 0 ? sums[k][v] : total + sums[k][v];
        }
    }
    __syncthreads();
  }
  for (int i = threadIdx.x; i < K * V * 32; i += NormPlan::block) {
    const int64_t column = (i / (32 * V) * 32 + i % 32) * V + i / 32 % V;
    if (column < columns) to[column] = shared[i];
  }
  __syncthreads();
}

template <class T, int K, bool one_warp>
__global__ void __launch_bounds__(NormPlan::block)
    norm_backward_kernel(const __grid_constant__ BackwardArgs<T> a) {
  using Wide = WideOf<T>;
  constexpr int V = full_width<T>;
  constexpr int rows_at_once = one_warp ? NormPlan::block / 32 : 1;
  __shared__ Wide shared[one_warp ? K * V * 32 : NormPlan::block / 32];
  const int thread = one_warp ? threadIdx.x % 32 : threadIdx.x;
  const int64_t last = a.chunks.first(blockIdx.x + 1);
  ColumnSums<Wide, K, V> sums;
  for (int64_t row = a.chunks.first(blockIdx.x) + (one_warp ? threadIdx.x / 32 : 0); row < last;
       row += rows_at_once)
    backward_row<T, K, one_warp>(a, row, thread, sums, shared);
  if (!a.partials) return;
  Wide* to_gamma = a.partials + blockIdx.x * a.columns;
  Wide* to_beta = to_gamma + a.chunks.count * a.columns;
  if constexpr (one_warp) {
    join_warps<K, V>(sums.gamma, a.columns, shared, to_gamma);
    join_warps<K, V>(sums.beta, a.columns, shared, to_beta);
  } else {
#pragma unroll
    for (int k = 0; k < K; ++k) {
      const int64_t column = (k * NormPlan::block + thread) * V;
      if (column >= a.columns) continue;
      store<V>(to_gamma + column, sums.gamma[k]);
      store<V>(to_beta + column, sums.beta[k]);
    }
  }
}

/// Any number of columns and any address: dx of one row per block.
template <class T>
__global__ void __launch_bounds__(NormPlan::block)
    backward_any_kernel(const __grid_constant__ BackwardArgs<T> a) {
  using Wide = WideOf<T>;
  __shared__ Wide shared[NormPlan::block / 32];
  const int64_t row = blockIdx.x, start = row * a.columns;
  const Wide mean = a.statistics[2 * row], inverse = a.statistics[2 * row + 1];
  const Wide count = static_cast<Wide>(a.columns);
  const auto columns = [&](const auto& body) {
#pragma unroll 2
    for (int64_t c = threadIdx.x; c < a.columns; c += blockDim.x)
      body(c, (widen(a.x[start + c]) - mean) * inverse,
           static_cast<Wide>(widen(a.dy[start + c])) * static_cast<Wide>(widen(a.gamma[c])));
  };
  Wide sum_h = 0, sum_hn = 0;
  columns([&](int64_t, Wide n, Wide h) {
    sum_h += h;
    sum_hn += h * n;
  });
  const Wide mean_h = a.centered ? block_join(sum_h, shared) / count : Wide{0};
  const Wide mean_hn = block_join(sum_hn, shared) / count;
  columns([&](int64_t c, Wide n, Wide h) {
    T& place = a.dx[start + c];
    const Wide before = a.add ? static_cast<Wide>(widen(place)) : Wide{0};
    place = narrow<T>(before + inverse * (h - mean_h - n * mean_hn));
  });
}

/// The same: a chunk's sums of 256 columns per block.
template <class T>
__global__ void __launch_bounds__(NormPlan::block)
    columns_any_kernel(const __grid_constant__ BackwardArgs<T> a) {
  using Wide = WideOf<T>;
  const int64_t column = static_cast<int64_t>(blockIdx.y) * NormPlan::block + threadIdx.x;
  if (column >= a.columns) return;
  const int64_t last = a.chunks.first(blockIdx.x + 1);
  Wide gamma = 0, beta = 0;
#pragma unroll 4
  for (int64_t row = a.chunks.first(blockIdx.x); row < last; ++row) {
    const Wide slope = widen(a.dy[row * a.columns + column]);
    const Wide from_mean = widen(a.x[row * a.columns + column]) - a.statistics[2 * row];
    gamma += slope * (from_mean * a.statistics[2 * row + 1]);
    beta += slope;
  }
  a.partials[blockIdx.x * a.columns + column] = gamma;
  a.partials[(a.chunks.count + blockIdx.x) * a.columns + column] = beta;
}

template <class T>
void launch_any(const BackwardArgs<T>& a) {
  if (a.dx) {
    const int threads = a.columns <= 128 ? 32 : NormPlan::block;
    backward_any_kernel<T><<<static_cast<uint32_t>(a.chunks.rows), threads, 0, stream()>>>(a);
    CUDA_CHECK_LAUNCH(backward_any_kernel);
  }
  if (a.partials) {
    const dim3 grid(static_cast<uint32_t>(a.chunks.count),
                    static_cast<uint32_t>(ceil_div(a.columns, NormPlan::block)));
    columns_any_kernel<T><<<grid, NormPlan::block, 0, stream()>>>(a);
    CUDA_CHECK_LAUNCH(columns_any_kernel);
  }
}

template <class T>
void norm_backward_as(const kernel::NormBackward& args, void* workspace) {
  using Wide = WideOf<T>;
  const int64_t columns = args.gamma.shape.elements();
  const int64_t rows = columns ? args.x.shape.elements() / columns : 0;
  constexpr int V = full_width<T>;
  T* dx = args.dx ? static_cast<T*>(args.dx->into.data) : nullptr;
  bool aligned = true;
  for (const void* data :
       {args.x.data, args.gamma.data, args.dy.data, static_cast<const void*>(dx)})
    aligned = aligned && is_aligned(data, sizeof(T), V);
  const BackwardArgs<T> a{static_cast<const T*>(args.x.data),
                          static_cast<const T*>(args.gamma.data),
                          static_cast<const T*>(args.dy.data),
                          static_cast<const Wide*>(args.statistics.data),
                          dx,
                          args.dgamma || args.dbeta ? static_cast<Wide*>(workspace) : nullptr,
                          norm_chunks(rows),
                          columns,
                          args.dx && args.dx->write == Write::add,
                          args.centered};
  const NormPlan plan(rows, columns, sizeof(T), aligned);
  if (rows > 0 && plan.vectors == 0) launch_any(a);
  if (rows > 0 && plan.vectors > 0)
    with_vectors(plan.vectors, [&]<class K>(K) {
      with_bool(plan.one_warp, [&]<class One>(One) {
        norm_backward_kernel<T, K::value, One::value>
            <<<static_cast<uint32_t>(a.chunks.count), NormPlan::block, 0, stream()>>>(a);
        CUDA_CHECK_LAUNCH(norm_backward_kernel);
      });
    });
  if (!a.partials || columns == 0) return;
  ColumnPlace gamma, beta;
  if (args.dgamma) gamma = {args.dgamma->into, args.dgamma->write};
  if (args.dbeta) beta = {args.dbeta->into, args.dbeta->write};
  last_columns(a.partials, a.chunks.count, columns, gamma, beta);
}

}  // namespace

size_t norm_backward_workspace(const kernel::NormBackward& args) {
  if (!args.dgamma && !args.dbeta) return 0;
  const int64_t columns = args.gamma.shape.elements();
  const int64_t rows = columns ? args.x.shape.elements() / columns : 0;
  return 2 * norm_chunks(rows).count * columns * size_of(wide(args.x.dtype));
}

void norm_backward(const kernel::NormBackward& args, void* workspace) {
  if (args.x.shape.elements() == 0) {  // sums of nothing
    for (const auto& sum : {args.dgamma, args.dbeta})
      if (sum && sum->write == Write::set) fill({sum->into, 0}, nullptr);
    return;
  }
  with_float(args.x.dtype, [&]<class T>(T) { norm_backward_as<T>(args, workspace); });
}

}  // namespace accrue::cuda
