// Softmax cross-entropy: the logits are read once forward, and once more backward, which may write
// over them.
#include <limits>

#include "accrue/cuda/dispatch.h"
#include "accrue/cuda/kernels.h"
#include "accrue/cuda/reduce.cuh"

namespace accrue::cuda {
namespace {

constexpr int most_threads = 512;

/// exp(d) for d ≤ 0 up to an absolute error of 2⁻²¹: the exponent d·log₂e is rounded to 2⁻²⁴ of its
/// size, and |d|·exp(d) ≤ 1/e; ex2.approx is right to 2⁻²². Tiny results are zero.
__device__ inline float fast_exp(float d) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(d * 1.4426950408889634f));
  return result;
}
__device__ inline double fast_exp(double d) { return exp(d); }

/// A row as its elements before the first 16-byte boundary, vectors, and the elements behind: an
/// odd vocabulary leaves every row at another address.
struct RowParts {
  int64_t head, vectors, tail;  // elements, vectors, elements
};
template <class T>
__device__ inline RowParts parts_of(const T* row, int64_t n) {
  constexpr int V = full_width<T>;
  const int64_t behind = reinterpret_cast<uintptr_t>(row) % 16 / sizeof(T);
  const int64_t before = behind == 0 ? 0 : V - behind, head = before < n ? before : n;
  const int64_t vectors = (n - head) / V;
  return {head, vectors, n - head - vectors * V};
}

/// The maximum so far, and the sum of exponentials relative to it.
template <class Wide>
struct Running {
  Wide top = std::numeric_limits<Wide>::lowest();  // not −∞: masked logits may all be −∞
  Wide sum = 0;

  template <int N>
  __device__ void add(const Wide (&x)[N]) {
    Wide high = top;
#pragma unroll
    for (int i = 0; i < N; ++i) high = x[i] > high ? x[i] : high;
    Wide more = 0;
#pragma unroll
    for (int i = 0; i < N; ++i) more += fast_exp(x[i] - high);
    sum = sum * fast_exp(top - high) + more;
    top = high;
  }
};

template <class T>
struct LossArgs {
  const T* logits;
  const int32_t* targets;
  WideOf<T>* logsum;
  double* losses;  // of each row
  int64_t vocabulary, ignore;
};

/// One row per block.
template <class T>
__global__ void __launch_bounds__(most_threads) logsum_kernel(const LossArgs<T> a) {
  using Wide = WideOf<T>;
  constexpr int V = full_width<T>, U = sizeof(T) == 8 ? 2 : 4;
  __shared__ Wide shared[most_threads / 32];
  const int64_t row = blockIdx.x;
  const T* x = a.logits + row * a.vocabulary;
  const RowParts parts = parts_of(x, a.vocabulary);
  const T* body = x + parts.head;
  Running<Wide> running;
  for (int64_t i = threadIdx.x; i < parts.vectors; i += U * blockDim.x) {
    Words<T, V> words[U];
#pragma unroll
    for (int u = 0; u < U; ++u)
      if (i + u * blockDim.x < parts.vectors) words[u].load(body + (i + u * blockDim.x) * V);
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (i + u * blockDim.x >= parts.vectors) continue;
      Wide numbers[V];
      words[u].widen(numbers);
      running.add(numbers);
    }
  }
  for (int64_t i = threadIdx.x; i < parts.head + parts.tail; i += blockDim.x) {
    const T one = i < parts.head ? x[i] : body[parts.vectors * V + i - parts.head];
    const Wide number[1] = {static_cast<Wide>(widen(one))};
    running.add(number);
  }
  const Wide top = block_join(running.top, shared, Greater());
  const Wide sum = block_join(running.sum * fast_exp(running.top - top), shared);
  if (threadIdx.x != 0) return;
  const Wide logarithm = top + log(sum);
  const int64_t target = a.targets[row];
  a.logsum[row] = logarithm;
  a.losses[row] = target == a.ignore
                      ? 0
                      : static_cast<double>(logarithm) - static_cast<double>(widen(x[target]));
}

template <class T>
struct SlopeArgs {
  const T* logits;
  T* dlogits;  // at the same place within 16 bytes, or `aligned` is false
  const int32_t* targets;
  const WideOf<T>* logsum;
  Scalar factor;
  int64_t vocabulary, ignore;
  bool add, aligned;
};

/// dlogits of V neighbours, the first of which is `first` of the row.
template <class T, int V>
__device__ inline void slopes_at(const SlopeArgs<T>& a, const Words<T, V>& logits, T* place,
                                 int64_t first, int64_t target, WideOf<T> logsum,
                                 WideOf<T> factor) {
  using Wide = WideOf<T>;
  Wide x[V], before[V] = {};
  logits.widen(x);
  if (a.add) load<V>(place, before);
  const int64_t at = target - first;
#pragma unroll
  for (int v = 0; v < V; ++v)
    before[v] += factor * (fast_exp(x[v] - logsum) - (at == v ? Wide{1} : Wide{0}));
  store<V>(place, before);
}

/// Ignored rows: zero, or nothing to add.
template <class T>
__device__ inline void clear_row(T* row, int64_t n) {
  constexpr int V = full_width<T>;
  const RowParts parts = parts_of(row, n);
  T* body = row + parts.head;
  Words<T, V> zero;
  zero.repeat(T{});
  for (int64_t i = threadIdx.x; i < parts.vectors; i += blockDim.x) zero.store(body + i * V);
  for (int64_t i = threadIdx.x; i < parts.head + parts.tail; i += blockDim.x)
    (i < parts.head ? row[i] : body[parts.vectors * V + i - parts.head]) = T{};
}

template <class T>
__global__ void __launch_bounds__(most_threads)
    slope_kernel(const __grid_constant__ SlopeArgs<T> a) {
  using Wide = WideOf<T>;
  constexpr int V = full_width<T>, U = 2;
  const int64_t row = blockIdx.x, start = row * a.vocabulary, target = a.targets[row];
  const T* x = a.logits + start;
  T* y = a.dlogits + start;
  if (target == a.ignore) {
    if (!a.add) clear_row(y, a.vocabulary);
    return;
  }
  const Wide factor = a.factor.template value<Wide>(), logsum = a.logsum[row];
  // Without common boundaries everything counts as the head.
  const RowParts parts = a.aligned ? parts_of(x, a.vocabulary) : RowParts{a.vocabulary, 0, 0};
  for (int64_t i = threadIdx.x; i < parts.vectors; i += U * blockDim.x) {
    Words<T, V> words[U];
    const auto column = [&](int u) { return parts.head + (i + u * blockDim.x) * V; };
#pragma unroll
    for (int u = 0; u < U; ++u)
      if (i + u * blockDim.x < parts.vectors) words[u].load(x + column(u));
#pragma unroll
    for (int u = 0; u < U; ++u)
      if (i + u * blockDim.x < parts.vectors)
        slopes_at<T, V>(a, words[u], y + column(u), column(u), target, logsum, factor);
  }
  for (int64_t i = threadIdx.x; i < parts.head + parts.tail; i += blockDim.x) {
    const int64_t column = i < parts.head ? i : parts.vectors * V + i;
    Words<T, 1> word;
    word.load(x + column);
    slopes_at<T, 1>(a, word, y + column, column, target, logsum, factor);
  }
}

/// Threads that a row keeps busy with a few vectors each.
template <class T>
int threads_of(int64_t vocabulary) {
  const int64_t wanted = ceil_div(vocabulary, 4 * full_width<T>);
  return static_cast<int>(std::clamp<int64_t>(ceil_div(wanted, 32) * 32, 32, most_threads));
}

}  // namespace

size_t cross_entropy_workspace(const kernel::CrossEntropy& args) {
  return args.targets.shape.elements() * sizeof(double);
}

void cross_entropy(const kernel::CrossEntropy& args, void* workspace) {
  const int64_t rows = args.targets.shape.elements(), vocabulary = args.logits.shape[-1];
  double* losses = static_cast<double*>(workspace);
  if (rows > 0)
    with_float(args.logits.dtype, [&]<class T>(T) {
      const LossArgs<T> a{static_cast<const T*>(args.logits.data),
                          static_cast<const int32_t*>(args.targets.data),
                          static_cast<WideOf<T>*>(args.logsum.data),
                          losses,
                          vocabulary,
                          args.ignore};
      logsum_kernel<T><<<static_cast<uint32_t>(rows), threads_of<T>(vocabulary), 0, stream()>>>(a);
      CUDA_CHECK_LAUNCH(logsum_kernel);
    });
  last_sum(losses, rows, args.loss, args.write);
}

void cross_entropy_backward(const kernel::CrossEntropyBackward& args, void*) {
  const int64_t rows = args.targets.shape.elements(), vocabulary = args.logits.shape[-1];
  if (rows == 0 || vocabulary == 0) return;
  with_float(args.logits.dtype, [&]<class T>(T) {
    const auto offset = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 16; };
    const Out& place = args.dlogits.into;
    const SlopeArgs<T> a{static_cast<const T*>(args.logits.data),
                         static_cast<T*>(place.data),
                         static_cast<const int32_t*>(args.targets.data),
                         static_cast<const WideOf<T>*>(args.logsum.data),
                         Scalar(args.factor),
                         vocabulary,
                         args.ignore,
                         args.dlogits.write == Write::add,
                         offset(args.logits.data) == offset(place.data)};
    slope_kernel<T><<<static_cast<uint32_t>(rows), threads_of<T>(vocabulary), 0, stream()>>>(a);
    CUDA_CHECK_LAUNCH(slope_kernel);
  });
}

}  // namespace accrue::cuda
