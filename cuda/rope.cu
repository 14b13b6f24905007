// Rotary positions: the angles' sines and cosines are worked out once per call, in f64, and shared
// by all samples and heads.
#include "accrue/cuda/check.h"
#include "accrue/cuda/dispatch.h"
#include "accrue/cuda/kernels.h"
#include "accrue/cuda/layout.h"
#include "accrue/cuda/runtime.h"
#include "accrue/cuda/vector.cuh"

namespace accrue::cuda {
namespace {

/// turns [2, T, D/2]: cosines, then sines.
template <class Wide>
__global__ void __launch_bounds__(threads)
    turns_kernel(Wide* turns, uint32_t length, uint32_t half, double base, bool inverse) {
  const uint32_t index = blockIdx.x * threads + threadIdx.x;
  if (index >= length * half) return;
  const double i = index % half, t = index / half;
  double sine, cosine;
  sincos(t * pow(base, -i / half), &sine, &cosine);
  turns[index] = static_cast<Wide>(cosine);
  turns[length * half + index] = static_cast<Wide>(inverse ? -sine : sine);
}

template <class T>
struct RopeArgs {
  const T* x;
  T* y;
  const WideOf<T>* turns;
  Walk<2> walk;                    // of vectors of the first halves; operand 0: y, 1: x
  Divider vectors, heads, length;  // per half; then parts and positions
  uint32_t count;
  int64_t half;
  bool add;
};

template <class T, int V>
__global__ void __launch_bounds__(threads) rope_kernel(const __grid_constant__ RopeArgs<T> a) {
  using Wide = WideOf<T>;
  const uint32_t index = blockIdx.x * threads + threadIdx.x;
  if (index >= a.count) return;
  int64_t offset[2];
  a.walk.offsets(index, offset);
  const T* x = a.x + offset[1];
  T* y = a.y + offset[0];
  Wide first[V], second[V], cosine[V], sine[V], sums[2][V] = {};
  load<V>(x, first);
  load<V>(x + a.half, second);
  if (a.add) {
    load<V>(y, sums[0]);
    load<V>(y + a.half, sums[1]);
  }
  const uint32_t row = a.vectors.quotient(index), of_heads = a.heads.quotient(row);
  const uint32_t position = of_heads / 3, part = of_heads - position * 3;
  const int64_t i = (index - row * a.vectors.divisor) * V;
  const int64_t t = position - a.length.quotient(position) * a.length.divisor;
#pragma unroll
  for (int v = 0; v < V; ++v) cosine[v] = 1, sine[v] = 0;
  if (part < 2) {
    load<V>(a.turns + t * a.half + i, cosine);
    load<V>(a.turns + (a.length.divisor + t) * a.half + i, sine);
  }
#pragma unroll
  for (int v = 0; v < V; ++v) {
    sums[0][v] += first[v] * cosine[v] - second[v] * sine[v];
    sums[1][v] += first[v] * sine[v] + second[v] * cosine[v];
  }
  store<V>(y, sums[0]);
  store<V>(y + a.half, sums[1]);
}

template <class T, int V>
void turn(const kernel::Rope& args, const WideOf<T>* turns) {
  const Shape& shape = args.x.shape;
  const int64_t half = shape[4] / 2;
  Out y = args.y;
  In x = args.x;
  y.shape[4] = x.shape[4] = half;
  const In target = y;
  const auto small = [](int64_t n) { return Divider(static_cast<uint32_t>(n)); };
  // Positions of a sample are whole in a launch: samples are split among launches.
  const int64_t each_sample = shape[1] * 3 * shape[3] * half;
  const int64_t at_once = std::max<int64_t>(1, most_vectors / each_sample);
  for (int64_t b = 0; b < shape[0]; b += at_once) {
    Shape some = y.shape;
    some[0] = std::min(at_once, shape[0] - b);
    const Loops<2> loops(some, {&target, &x});
    const auto count = static_cast<uint32_t>(some.elements() / V);
    const RopeArgs<T> a{static_cast<const T*>(x.data) + b * x.strides[0],
                        static_cast<T*>(y.data) + b * y.strides[0],
                        turns,
                        Walk<2>(loops, V),
                        small(half / V),
                        small(shape[3]),
                        small(shape[1]),
                        count,
                        half,
                        args.write == Write::add};
    rope_kernel<T, V><<<static_cast<uint32_t>(ceil_div(count, threads)), threads, 0, stream()>>>(a);
    CUDA_CHECK_LAUNCH(rope_kernel);
  }
}

}  // namespace

size_t rope_workspace(const kernel::Rope& args) {
  return args.x.shape[1] * args.x.shape[4] * size_of(wide(args.x.dtype));
}

void rope(const kernel::Rope& args, void* workspace) {
  const int64_t half = args.x.shape[4] / 2;
  if (args.x.shape.elements() == 0) return;
  with_float(args.x.dtype, [&]<class T>(T) {
    constexpr int V = full_width<T>;
    auto* turns = static_cast<WideOf<T>*>(workspace);
    const auto length = static_cast<uint32_t>(args.x.shape[1]);
    turns_kernel<<<static_cast<uint32_t>(ceil_div(length * half, threads)), threads, 0, stream()>>>(
        turns, length, static_cast<uint32_t>(half), args.base, args.inverse);
    CUDA_CHECK_LAUNCH(turns_kernel);
    bool vectors = half % V == 0 && args.x.strides[4] == 1 && args.y.strides[4] == 1 &&
                   is_aligned(args.x.data, sizeof(T), V) && is_aligned(args.y.data, sizeof(T), V);
    for (int i = 0; i < 4; ++i)
      vectors = vectors && args.x.strides[i] % V == 0 && args.y.strides[i] % V == 0;
    vectors ? turn<T, V>(args, turns) : turn<T, 1>(args, turns);
  });
}

}  // namespace accrue::cuda
