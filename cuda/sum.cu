// SumTo: column sums and row sums of matrices at the speed of memory, anything else correctly.
// Every order of additions depends on shapes alone.
#include "accrue/cuda/dispatch.h"
#include "accrue/cuda/kernels.h"
#include "accrue/cuda/reduce.cuh"

namespace accrue::cuda {
namespace {

constexpr int warps = threads / 32;

/// Σ over a chunk of rows: a lane owns V columns, the warps take the rows in turn, four in flight.
template <class From, int V, class Wide>
__global__ void __launch_bounds__(threads)
    columns_kernel(const From* from, int64_t stride, int64_t columns, RowChunks chunks,
                   Wide* partials, ColumnPlace place) {
  __shared__ Wide shared[warps][32 * V];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t tile = static_cast<int64_t>(blockIdx.x) * (32 * V), column = tile + lane * V;
  const int64_t last = chunks.first(blockIdx.y + 1);
  Wide sums[V] = {};
  if (column < columns) {
    int64_t row = chunks.first(blockIdx.y) + warp;
    for (; row + 3 * warps < last; row += 4 * warps) {
      Words<From, V> words[4];
#pragma unroll
      for (int u = 0; u < 4; ++u) words[u].load(from + (row + u * warps) * stride + column);
      Wide x[4][V];
#pragma unroll
      for (int u = 0; u < 4; ++u) words[u].widen(x[u]);
#pragma unroll
      for (int v = 0; v < V; ++v) sums[v] += (x[0][v] + x[1][v]) + (x[2][v] + x[3][v]);
    }
    for (; row < last; row += warps) {
      Wide x[V];
      load<V>(from + row * stride + column, x);
#pragma unroll
      for (int v = 0; v < V; ++v) sums[v] += x[v];
    }
  }
#pragma unroll
  for (int v = 0; v < V; ++v) shared[warp][v * 32 + lane] = sums[v];
  __syncthreads();
  for (int i = threadIdx.x; i < 32 * V; i += threads) {
    Wide total = 0;
    for (int w = 0; w < warps; ++w) total += shared[w][i];
    const int64_t own = tile + i % 32 * V + i / 32;
    if (own >= columns) continue;
    if (partials)
      partials[blockIdx.y * columns + own] = total;
    else
      place.put(own, total);
  }
}

/// Σ over a chunk of a row; the blocks of a row lie in a grid's x.
template <class From, int V, class Wide>
__global__ void __launch_bounds__(threads)
    rows_kernel(const From* from, int64_t stride, RowChunks chunks, Wide* partials,
                ColumnPlace place, int64_t stride_to) {
  __shared__ Wide shared[warps];
  const int64_t row = blockIdx.x / chunks.count, chunk = blockIdx.x % chunks.count;
  const From* x = from + row * stride;
  const int64_t first = chunks.first(chunk), last = chunks.first(chunk + 1);
  const int64_t whole = first + (last - first) / V * V, step = blockDim.x * V;
  Wide sum = 0;
#pragma unroll 4
  for (int64_t i = first + threadIdx.x * V; i < whole; i += step) {
    Wide numbers[V];
    load<V>(x + i, numbers);
    Wide part = numbers[0];
#pragma unroll
    for (int v = 1; v < V; ++v) part += numbers[v];
    sum += part;
  }
  if (whole + threadIdx.x < last) sum += static_cast<Wide>(widen(x[whole + threadIdx.x]));
  sum = block_join(sum, shared);
  if (threadIdx.x != 0) return;
  if (partials)
    partials[blockIdx.x] = sum;
  else
    place.put(row * stride_to, sum);
}

/// The last pass of rows_kernel: a row's chunks in order.
template <class Wide>
__global__ void __launch_bounds__(threads)
    last_rows_kernel(const Wide* partials, int64_t rows, int64_t count, ColumnPlace place,
                     int64_t stride_to) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (row >= rows) return;
  Wide sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += partials[row * count + i];
  place.put(row * stride_to, sum);
}

/// Any dtypes and strides: one block for each sum, in f64.
__global__ void __launch_bounds__(threads)
    any_kernel(In from, Out to, const __grid_constant__ Walk<2> kept,
               const __grid_constant__ Walk<1> summed, uint32_t terms, bool add) {
  __shared__ double shared[warps];
  int64_t place[2];
  kept.offsets(blockIdx.x, place);
  double sum = 0;
  for (uint32_t i = threadIdx.x; i < terms; i += blockDim.x) {
    int64_t offset[1];
    summed.offsets(i, offset);
    sum += load_any<double>(from.data, place[0] + offset[0], from.dtype);
  }
  sum = block_join(sum, shared);
  if (threadIdx.x == 0) put_any(to.data, place[1], to.dtype, sum, add);
}

/// What kind of sum it is: from the joined dimensions of `from` (0) and `to` (1).
struct SumPlan {
  enum Kind { columns, rows, any } kind = any;
  Loops<2> loops;
  int64_t outer = 1, inner = 1;
  int64_t outer_from = 0, outer_to = 0;
  DType from;
  RowChunks chunks;  // of a row
  bool vectors = false;
  int64_t partials = 0;

  explicit SumPlan(const kernel::SumTo& args) : from(args.from.dtype) {
    const In target = args.to;
    loops = Loops<2>(args.from.shape, {&args.from, &target});
    const DType to = args.to.dtype;
    if (loops.rank < 1 || loops.rank > 2 || !is_floating(from) || !is_floating(to)) return;
    if (to == DType::f64 && from != DType::f64) return;  // the sum of f32 in f64 is rare
    inner = loops.sizes[loops.rank - 1];
    const int64_t inner_from = loops.strides[loops.rank - 1][0];
    const int64_t inner_to = loops.strides[loops.rank - 1][1];
    if (loops.rank == 2) {
      outer = loops.sizes[0];
      outer_from = loops.strides[0][0];
      outer_to = loops.strides[0][1];
    }
    if (inner_from != 1) return;
    const int V = 16 / static_cast<int>(size_of(from));
    vectors = outer_from % V == 0 && is_aligned(args.from.data, size_of(from), V);
    if (loops.rank == 2 && outer_to == 0 && inner_to == 1) {
      kind = columns;
      vectors = vectors && inner % V == 0;
      partials = cut().partials();
    } else if (inner_to == 0 && outer * ceil_div(inner, row_chunk) < most_vectors) {
      kind = rows;
      chunks = RowChunks(inner, row_chunk, inner);
      partials = chunks.count > 1 ? outer * chunks.count : 0;
    }
  }
  /// The same for vectors and without: the workspace does not depend on addresses.
  ColumnPlan cut() const { return {outer, inner, 32 * (16 / static_cast<int64_t>(size_of(from)))}; }

  static constexpr int64_t row_chunk = 16384;
};

template <class From, int V>
void sum_columns(const SumPlan& plan, const kernel::SumTo& args, void* workspace) {
  using Wide = WideOf<From>;
  const ColumnPlan cut = plan.cut();
  const ColumnPlace place(args.to, args.write);
  Wide* partials = cut.partials() > 0 ? static_cast<Wide*>(workspace) : nullptr;
  const dim3 grid(static_cast<uint32_t>(ceil_div(plan.inner, 32 * V)),
                  static_cast<uint32_t>(cut.chunks.count));
  columns_kernel<From, V><<<grid, threads, 0, stream()>>>(static_cast<const From*>(args.from.data),
                                                          plan.outer_from, plan.inner, cut.chunks,
                                                          partials, place);
  CUDA_CHECK_LAUNCH(columns_kernel);
  if (partials) last_columns(partials, cut.chunks.count, plan.inner, place);
}

template <class From, int V>
void sum_rows(const SumPlan& plan, const kernel::SumTo& args, void* workspace) {
  using Wide = WideOf<From>;
  const ColumnPlace place(args.to, args.write);
  Wide* partials = plan.partials > 0 ? static_cast<Wide*>(workspace) : nullptr;
  const int block = plan.inner <= 32 * V * 4 ? 32 : threads;
  rows_kernel<From, V>
      <<<static_cast<uint32_t>(plan.outer * plan.chunks.count), block, 0, stream()>>>(
          static_cast<const From*>(args.from.data), plan.outer_from, plan.chunks, partials, place,
          plan.outer_to);
  CUDA_CHECK_LAUNCH(rows_kernel);
  if (!partials) return;
  if (plan.outer == 1) return last_sum(partials, plan.chunks.count, args.to, args.write);
  last_rows_kernel<<<static_cast<uint32_t>(ceil_div(plan.outer, threads)), threads, 0, stream()>>>(
      partials, plan.outer, plan.chunks.count, place, plan.outer_to);
  CUDA_CHECK_LAUNCH(last_rows_kernel);
}

void sum_any(const SumPlan& plan, const kernel::SumTo& args) {
  Loops<2> kept;
  Loops<1> summed;
  for (int i = 0; i < plan.loops.rank; ++i) {
    if (plan.loops.strides[i][1] != 0)
      kept.push(plan.loops.sizes[i], plan.loops.strides[i]);
    else
      summed.push(plan.loops.sizes[i], {plan.loops.strides[i][0]});
  }
  const int64_t terms = summed.elements();
  const int block = terms <= 64 ? 32 : terms <= 512 ? 128 : threads;
  any_kernel<<<static_cast<uint32_t>(kept.elements()), block, 0, stream()>>>(
      args.from, args.to, Walk<2>(kept, 1), Walk<1>(summed, 1), static_cast<uint32_t>(terms),
      args.write == Write::add);
  CUDA_CHECK_LAUNCH(any_kernel);
}

}  // namespace

size_t sum_to_workspace(const kernel::SumTo& args) {
  if (args.from.shape.elements() == 0) return 0;
  return SumPlan(args).partials * size_of(wide(args.from.dtype));
}

void sum_to(const kernel::SumTo& args, void* workspace) {
  if (args.to.shape.elements() == 0) return;
  if (args.from.shape.elements() == 0) {  // a sum of nothing
    if (args.write == Write::set) fill({args.to, 0}, nullptr);
    return;
  }
  const SumPlan plan(args);
  if (plan.kind == SumPlan::any) return sum_any(plan, args);
  with_float(args.from.dtype, [&]<class From>(From) {
    with_bool(plan.vectors, [&]<class Vectors>(Vectors) {
      constexpr int V = Vectors::value ? full_width<From> : 1;
      if (plan.kind == SumPlan::columns)
        sum_columns<From, V>(plan, args, workspace);
      else
        sum_rows<From, V>(plan, args, workspace);
    });
  });
}

}  // namespace accrue::cuda
