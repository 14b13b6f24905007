// Keyed dropout: one draw for each four elements of a sample.
#include "accrue/cuda/check.h"
#include "accrue/cuda/dispatch.h"
#include "accrue/cuda/kernels.h"
#include "accrue/cuda/layout.h"
#include "accrue/cuda/runtime.h"
#include "accrue/cuda/vector.cuh"

namespace accrue::cuda {
namespace {

constexpr int each_thread = 2;

template <class T>
struct DropArgs {
  const T* x;
  T* y;
  const int64_t* samples;
  int64_t batch, size;  // samples, and elements of each
  uint32_t threshold;   // uniform01(bits) ≥ p exactly where bits >> 8 ≥ threshold
  WideOf<T> factor;
  bool add;
  RandomKey key;
};

/// factor or 0 for the elements 4·quad … 4·quad + 4·Q − 1 of a sample.
template <int Q, class T>
__device__ inline void factors_of(const DropArgs<T>& a, const RandomKey& key, int64_t sample,
                                  int64_t quad, WideOf<T> (&factors)[4 * Q]) {
#pragma unroll
  for (int q = 0; q < Q; ++q) {
    const std::array<uint32_t, 4> bits = key.draw(sample, static_cast<uint64_t>(quad + q));
#pragma unroll
    for (int i = 0; i < 4; ++i)
      factors[4 * q + i] = bits[i] >> 8 >= a.threshold ? a.factor : WideOf<T>{0};
  }
}

/// A grid's y goes over the samples; V is a multiple of 4.
template <class T, int V>
__global__ void __launch_bounds__(threads) dropout_kernel(const __grid_constant__ DropArgs<T> a) {
  using Wide = WideOf<T>;
  const RandomKey key = a.key.resolved();
  const int64_t first =
      (static_cast<int64_t>(blockIdx.x) * (threads * each_thread) + threadIdx.x) * V;
  for (int64_t b = blockIdx.y; b < a.batch; b += gridDim.y) {
    const int64_t sample = a.samples[b], start = b * a.size;
    Words<T, V> x[each_thread], before[each_thread];
#pragma unroll
    for (int u = 0; u < each_thread; ++u) {
      const int64_t e = first + u * (threads * V);
      if (e >= a.size) continue;
      x[u].load(a.x + start + e);
      if (a.add) before[u].load(a.y + start + e);
    }
#pragma unroll
    for (int u = 0; u < each_thread; ++u) {
      const int64_t e = first + u * (threads * V);
      if (e >= a.size) continue;
      Wide values[V], factors[V], sums[V] = {};
      x[u].widen(values);
      if (a.add) before[u].widen(sums);
      factors_of<V / 4>(a, key, sample, e / 4, factors);
#pragma unroll
      for (int v = 0; v < V; ++v) sums[v] += values[v] * factors[v];
      store<V>(a.y + start + e, sums);
    }
  }
}

/// Any size of a sample, any address: four elements per thread.
template <class T>
__global__ void __launch_bounds__(threads)
    dropout_any_kernel(const __grid_constant__ DropArgs<T> a) {
  using Wide = WideOf<T>;
  const RandomKey key = a.key.resolved();
  const int64_t quad = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  for (int64_t b = blockIdx.y; b < a.batch && 4 * quad < a.size; b += gridDim.y) {
    Wide factors[4];
    factors_of<1>(a, key, a.samples[b], quad, factors);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (4 * quad + i >= a.size) continue;
      const int64_t e = b * a.size + 4 * quad + i;
      const Wide before = a.add ? static_cast<Wide>(widen(a.y[e])) : Wide{0};
      a.y[e] = narrow<T>(before + static_cast<Wide>(widen(a.x[e])) * factors[i]);
    }
  }
}

}  // namespace

void dropout(const kernel::Dropout& args, void*) {
  const int64_t batch = args.x.shape[0];
  const int64_t size = batch ? args.x.shape.elements() / batch : 0;
  if (size == 0) return;
  with_float(args.x.dtype, [&]<class T>(T) {
    constexpr int V = std::max(4, full_width<T>);
    const DropArgs<T> a{static_cast<const T*>(args.x.data),
                        static_cast<T*>(args.y.data),
                        static_cast<const int64_t*>(args.samples.data),
                        batch,
                        size,
                        static_cast<uint32_t>(std::ceil(args.p * 0x1p24)),
                        static_cast<WideOf<T>>(1 / (1 - args.p)),
                        args.write == Write::add,
                        args.key};
    const bool vectors =
        size % V == 0 && is_aligned(a.x, sizeof(T), V) && is_aligned(a.y, sizeof(T), V);
    const int64_t each_block = threads * (vectors ? int64_t{each_thread} * V : 4);
    const dim3 grid(static_cast<uint32_t>(ceil_div(size, each_block)),
                    static_cast<uint32_t>(std::min<int64_t>(batch, 65535)));
    if (vectors)
      dropout_kernel<T, V><<<grid, threads, 0, stream()>>>(a);
    else
      dropout_any_kernel<T><<<grid, threads, 0, stream()>>>(a);
    CUDA_CHECK_LAUNCH(dropout_kernel);
  });
}

}  // namespace accrue::cuda
