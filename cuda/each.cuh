// Kernels in which every element stands alone: one formula, any strides, vectors where they fit.
#pragma once
#include <tuple>
#include <utility>

#include "accrue/cuda/check.h"
#include "accrue/cuda/layout.h"
#include "accrue/cuda/runtime.h"
#include "accrue/cuda/vector.cuh"

namespace accrue::cuda {
namespace detail {

template <int N>
struct EachArgs {
  void* data[N];
  Walk<N> walk;
  uint32_t vectors;  // whole ones
  uint32_t tail;     // elements behind them; only in one dimension
  bool reads_outs;
};

template <class T, int V>
__device__ inline void fetch(Words<T, V>& words, const void* base, int64_t offset, bool repeated) {
  const T* from = static_cast<const T*>(base) + offset;
  if (V > 1 && repeated)
    words.repeat(*from);
  else
    words.load(from);
}

/// y = x, bit for bit: both have one dtype.
struct Move {};

/// What one thread holds of all operands, for one vector.
template <int outs, class Wide, int V, class... T>
struct Each {
  static constexpr int N = sizeof...(T);
  std::tuple<Words<T, V>...> words;
  int64_t offset[N];

  template <size_t... K>
  __device__ void load(const EachArgs<N>& args, std::index_sequence<K...>) {
    ((K >= outs || args.reads_outs
          ? fetch<T, V>(std::get<K>(words), args.data[K], offset[K], args.walk.repeated >> K & 1)
          : void()),
     ...);
  }
  template <class Formula, size_t... K>
  __device__ void apply(const Formula& formula, std::index_sequence<K...>) {
    if constexpr (std::is_same_v<Formula, Move>) {
      std::get<0>(words) = std::get<1>(words);
    } else {
      Wide x[N][V];
      (std::get<K>(words).widen(x[K]), ...);
#pragma unroll
      for (int v = 0; v < V; ++v) formula(x[K][v]...);
      ((K < outs ? std::get<K>(words).narrow(x[K]) : void()), ...);
    }
  }
  template <size_t... K>
  __device__ void store(const EachArgs<N>& args, std::index_sequence<K...>) {
    ((K < outs ? std::get<K>(words).store(static_cast<T*>(args.data[K]) + offset[K]) : void()),
     ...);
  }
};

/// Each block takes U·threads vectors, whose loads are all under way before the first is used.
template <int outs, class Wide, int U, int V, bool dense, class Formula, class... T>
__global__ void __launch_bounds__(threads)
    each_kernel(Formula formula, const __grid_constant__ EachArgs<sizeof...(T)> args) {
  if constexpr (requires { formula.begin(); }) formula.begin();
  constexpr auto all = std::index_sequence_for<T...>();
  constexpr int N = sizeof...(T);
  const uint32_t first = blockIdx.x * (threads * U) + threadIdx.x;
  Each<outs, Wide, V, T...> held[U];
#pragma unroll
  for (int u = 0; u < U; ++u) {
    const uint32_t index = first + u * threads;
    if (index >= args.vectors) continue;
    if constexpr (dense)
      for (int k = 0; k < N; ++k) held[u].offset[k] = static_cast<int64_t>(index) * V;
    else
      args.walk.offsets(index, held[u].offset);
    held[u].load(args, all);
  }
#pragma unroll
  for (int u = 0; u < U; ++u) {
    if (first + u * threads >= args.vectors) continue;
    held[u].apply(formula, all);
    held[u].store(args, all);
  }
  if (V > 1 && first < args.tail) {  // the first block's, of which a tail needs few
    Each<outs, Wide, 1, T...> one;
    const int64_t element = static_cast<int64_t>(args.vectors) * V + first;
    for (int k = 0; k < N; ++k) one.offset[k] = args.walk.repeated >> k & 1 ? 0 : element;
    one.load(args, all);
    one.apply(formula, all);
    one.store(args, all);
  }
}

template <int outs, class Wide, int V, bool dense, class Formula, class... T>
void launch_each(const Formula& formula, const Loops<sizeof...(T)>& loops,
                 const std::array<In, sizeof...(T)>& operands, bool reads_outs) {
  constexpr int N = sizeof...(T), U = N > 2 ? 2 : 4;
  constexpr size_t size[] = {sizeof(T)...};
  loops.parts(most_vectors, V, [&](const Loops<N>& part) {
    EachArgs<N> args{{}, Walk<N>(part, V), 0, 0, reads_outs};
    for (int k = 0; k < N; ++k)
      args.data[k] =
          static_cast<char*>(const_cast<void*>(operands[k].data)) + part.start[k] * size[k];
    args.vectors = static_cast<uint32_t>(part.elements() / V);
    args.tail = static_cast<uint32_t>(part.elements() % V);
    const auto blocks = static_cast<uint32_t>(ceil_div(args.vectors, threads * U));
    each_kernel<outs, Wide, U, V, dense, Formula, T...>
        <<<std::max(blocks, 1u), threads, 0, stream()>>>(formula, args);
    CUDA_CHECK_LAUNCH(each_kernel);
  });
}

}  // namespace detail

/// Operands of an elementwise call: the first `outs` are written, and read where `reads_outs`.
template <class... T>
struct Types {};

using detail::Move;

/// formula(outs&…, ins…) for every element of `shape`, in Wide; operands broadcast to the shape.
/// Where `strided` is false all operands are contiguous. A formula with begin() has it called once
/// in each thread.
template <int outs, class Wide, bool strided, class Formula, class... T>
void each(Types<T...>, const Formula& formula, const Shape& shape,
          const std::array<In, sizeof...(T)>& operands, bool reads_outs) {
  constexpr int N = sizeof...(T);
  constexpr int V = 16 / static_cast<int>(std::min({sizeof(T)...}));
  if (shape.elements() == 0) return;
  std::array<const In*, N> views;
  for (int k = 0; k < N; ++k) views[k] = &operands[k];
  const Loops<N> loops(shape, views);
  constexpr size_t size[] = {sizeof(T)...};
  bool vectors = loops.allows(V, outs);
  for (int k = 0; k < N; ++k) {
    const bool repeated = loops.rank > 0 && loops.strides[loops.rank - 1][k] == 0;
    vectors = vectors && (repeated || is_aligned(operands[k].data, size[k], V));
  }
  if (vectors && loops.dense())
    return detail::launch_each<outs, Wide, V, true, Formula, T...>(formula, loops, operands,
                                                                   reads_outs);
  if constexpr (strided) {
    if (vectors)
      return detail::launch_each<outs, Wide, V, false, Formula, T...>(formula, loops, operands,
                                                                      reads_outs);
  }
  detail::launch_each<outs, Wide, 1, false, Formula, T...>(formula, loops, operands, reads_outs);
}

}  // namespace accrue::cuda
