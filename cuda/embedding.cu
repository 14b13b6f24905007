// Rows of a table by number, and the sums of gradients into them: rows are sorted by id, then each
// id's are added in their order. No atomics.
#include "accrue/cuda/check.h"
#include "accrue/cuda/dispatch.h"
#include "accrue/cuda/embedding_plan.h"
#include "accrue/cuda/kernels.h"
#include "accrue/cuda/radix_sort.h"
#include "accrue/cuda/runtime.h"
#include "accrue/cuda/vector.cuh"

namespace accrue::cuda {
namespace {

/// Words of a row; a block takes 1,024 words of neighbouring rows.
template <class Word>
__global__ void __launch_bounds__(threads)
    gather_kernel(const Word* table, const int32_t* ids, Word* y, uint32_t words, Divider each_row,
                  uint32_t first_row) {
  constexpr int U = 4;
  const uint32_t first = blockIdx.x * (threads * U) + threadIdx.x;
  Word held[U];
#pragma unroll
  for (int u = 0; u < U; ++u) {
    const uint32_t index = first + u * threads;
    if (index >= words) continue;
    const uint32_t row = each_row.quotient(index), word = index - row * each_row.divisor;
    held[u] = table[static_cast<int64_t>(ids[first_row + row]) * each_row.divisor + word];
  }
#pragma unroll
  for (int u = 0; u < U; ++u) {
    const uint32_t index = first + u * threads;
    if (index < words) y[static_cast<int64_t>(first_row) * each_row.divisor + index] = held[u];
  }
}

template <class Word>
void gather(const kernel::Embedding& args, int64_t row_bytes) {
  const int64_t rows = args.ids.shape.elements();
  const auto each = static_cast<int64_t>(row_bytes / sizeof(Word));
  const int64_t at_once = std::max<int64_t>(1, most_vectors / each);
  for (int64_t r = 0; r < rows; r += at_once) {
    const auto words = static_cast<uint32_t>(std::min(at_once, rows - r) * each);
    gather_kernel<Word>
        <<<static_cast<uint32_t>(ceil_div(words, threads * 4)), threads, 0, stream()>>>(
            static_cast<const Word*>(args.table.data), static_cast<const int32_t*>(args.ids.data),
            static_cast<Word*>(args.y.data), words, Divider(static_cast<uint32_t>(each)),
            static_cast<uint32_t>(r));
    CUDA_CHECK_LAUNCH(gather_kernel);
  }
}

/// Between dtypes: one row per block.
__global__ void __launch_bounds__(threads) gather_any_kernel(In table, In ids, Out y) {
  const int64_t columns = table.shape.dims[1], row = blockIdx.x;
  const int64_t id = static_cast<const int32_t*>(ids.data)[row];
  for (int64_t c = threadIdx.x; c < columns; c += threads)
    store_any(y.data, row * columns + c, y.dtype,
              load_any<double>(table.data, id * columns + c, table.dtype));
}

__global__ void __launch_bounds__(threads) number_kernel(int32_t* numbers, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (i < count) numbers[i] = static_cast<int32_t>(i);
}

template <class T>
struct ScatterArgs {
  const T* dy;
  const int32_t* rows;  // sorted by id
  SortedRuns runs;
  WideOf<T>*heads, *tails;  // [chunks, C]
  void* table;
  DType dtype;
  int64_t columns;

  template <int V>
  __device__ void deposit(int64_t id, int64_t column, const WideOf<T> (&sums)[V]) const {
    const int64_t place = id * columns + column;
    if (V > 1 && dtype == dtype_of<WideOf<T>>) {  // aligned as dy is
      auto* to = static_cast<WideOf<T>*>(table) + place;
      WideOf<T> before[V];
      load<V>(to, before);
#pragma unroll
      for (int v = 0; v < V; ++v) before[v] += sums[v];
      store<V>(to, before);
      return;
    }
#pragma unroll
    for (int v = 0; v < V; ++v) put_any(table, place + v, dtype, sums[v], true);
  }
};

/// The runs of a chunk (a grid's x), for V columns of each thread.
template <class T, int V>
__global__ void __launch_bounds__(threads, 2)
    runs_kernel(const __grid_constant__ ScatterArgs<T> a) {
  using Wide = WideOf<T>;
  const int64_t column = (static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * V;
  const int64_t chunk = blockIdx.x, first = a.runs.first(chunk), last = a.runs.last(chunk);
  if (column >= a.columns) return;
  constexpr int U = 4;
  Wide sums[V] = {};
  bool came = a.runs.comes(chunk);
  for (int64_t p = first; p < last; p += U) {
    Words<T, V> words[U];
#pragma unroll
    for (int u = 0; u < U; ++u)
      if (p + u < last) words[u].load(a.dy + a.rows[p + u] * a.columns + column);
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (p + u >= last) continue;
      Wide x[V];
      words[u].widen(x);
#pragma unroll
      for (int v = 0; v < V; ++v) sums[v] += x[v];
      const int64_t next = p + u + 1;
      const int32_t id = a.runs.ids[p + u];
      if (next < a.runs.rows && next < last && a.runs.ids[next] == id) continue;
      // The run ends here, or with the chunk.
      if (came)
        store<V>(a.heads + chunk * a.columns + column, sums);
      else if (next == last && a.runs.goes_on(chunk))
        store<V>(a.tails + chunk * a.columns + column, sums);
      else
        a.deposit(id, column, sums);
      came = false;
#pragma unroll
      for (int v = 0; v < V; ++v) sums[v] = 0;
    }
  }
}

/// What the chunks have left of the runs that go on, in order.
template <class T, int V>
__global__ void __launch_bounds__(threads) joins_kernel(const __grid_constant__ ScatterArgs<T> a) {
  using Wide = WideOf<T>;
  const int64_t column = (static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * V;
  const int64_t chunk = blockIdx.x;
  if (column >= a.columns || !a.runs.begins(chunk)) return;
  const int64_t end = a.runs.end_of_run(chunk);
  Wide sums[V];
  load<V>(a.tails + chunk * a.columns + column, sums);
#pragma unroll 4
  for (int64_t next = chunk + 1; next < end; ++next) {
    Wide more[V];
    load<V>(a.heads + next * a.columns + column, more);
#pragma unroll
    for (int v = 0; v < V; ++v) sums[v] += more[v];
  }
  a.deposit(a.runs.ids[a.runs.last(chunk) - 1], column, sums);
}

template <class T, int V>
void scatter(const ScatterArgs<T>& a) {
  const int64_t wanted = ceil_div(ceil_div(a.columns, V), 32) * 32;
  const auto block = static_cast<uint32_t>(std::min<int64_t>(wanted, threads));
  const dim3 grid(static_cast<uint32_t>(SortedRuns::chunks(a.runs.rows)),
                  static_cast<uint32_t>(ceil_div(a.columns, int64_t{block} * V)));
  runs_kernel<T, V><<<grid, block, 0, stream()>>>(a);
  CUDA_CHECK_LAUNCH(runs_kernel);
  joins_kernel<T, V><<<grid, block, 0, stream()>>>(a);
  CUDA_CHECK_LAUNCH(joins_kernel);
}

EmbeddingWorkspace workspace_of(const kernel::EmbeddingBackward& args) {
  const int64_t rows = args.ids.shape.elements();
  return {rows, args.table.into.shape[1], size_of(wide(args.dy.dtype)), sort_workspace(rows)};
}

}  // namespace

void embedding(const kernel::Embedding& args, void*) {
  const int64_t rows = args.ids.shape.elements(), columns = args.table.shape[1];
  if (rows == 0 || columns == 0) return;
  if (args.table.dtype != args.y.dtype) {
    gather_any_kernel<<<static_cast<uint32_t>(rows), threads, 0, stream()>>>(args.table, args.ids,
                                                                             args.y);
    CUDA_CHECK_LAUNCH(gather_any_kernel);
    return;
  }
  const int64_t row = columns * static_cast<int64_t>(size_of(args.y.dtype));
  const auto fits = [&](size_t word) {
    return row % word == 0 && is_aligned(args.table.data, 1, static_cast<int>(word)) &&
           is_aligned(args.y.data, 1, static_cast<int>(word));
  };
  if (fits(16)) return gather<uint4>(args, row);
  if (fits(4)) return gather<uint32_t>(args, row);
  gather<uint16_t>(args, row);
}

size_t embedding_backward_workspace(const kernel::EmbeddingBackward& args) {
  return workspace_of(args).total;
}

void embedding_backward(const kernel::EmbeddingBackward& args, void* workspace) {
  const Out& table = args.table.into;
  const int64_t count = args.ids.shape.elements();
  const int64_t columns = table.shape[1], numbers = table.shape.elements();
  if (args.table.write == Write::set && numbers > 0)  // zero has no bits set in any dtype
    CUDA_CHECK(cudaMemsetAsync(table.data, 0, numbers * size_of(table.dtype), stream()));
  if (count == 0 || columns == 0) return;
  const EmbeddingWorkspace parts = workspace_of(args);
  char* base = static_cast<char*>(workspace);
  const auto ints = [&](size_t at) { return reinterpret_cast<int32_t*>(base + at); };
  number_kernel<<<static_cast<uint32_t>(ceil_div(count, threads)), threads, 0, stream()>>>(
      ints(parts.rows), count);
  CUDA_CHECK_LAUNCH(number_kernel);
  const int bits = std::max(1, static_cast<int>(std::bit_width(uint64_t(table.shape[0] - 1))));
  sort_pairs(base + parts.sort, parts.total - parts.sort,
             static_cast<const int32_t*>(args.ids.data), ints(parts.keys), ints(parts.rows),
             ints(parts.sorted_rows), count, bits);
  with_float(args.dy.dtype, [&]<class T>(T) {
    constexpr int V = full_width<T>;
    auto* sums = reinterpret_cast<WideOf<T>*>(base + parts.sums);
    const ScatterArgs<T> a{static_cast<const T*>(args.dy.data),
                           ints(parts.sorted_rows),
                           {ints(parts.keys), count},
                           sums,
                           sums + SortedRuns::chunks(count) * columns,
                           table.data,
                           table.dtype,
                           columns};
    const bool vectors =
        columns % V == 0 && is_aligned(a.dy, sizeof(T), V) && is_aligned(table.data, 16, 1);
    vectors ? scatter<T, V>(a) : scatter<T, 1>(a);
  });
}

}  // namespace accrue::cuda
