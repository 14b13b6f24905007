// Map: the formulas of core/functors/folds.h over contiguous tensors.
#include "accrue/cuda/dispatch.h"
#include "accrue/cuda/each.cuh"
#include "accrue/cuda/kernels.h"

namespace accrue::cuda {
namespace {

constexpr int each_thread = 4;

template <int N>
struct Operands {
  void* data[N];
  DType dtype[N];
};

/// Any mixture of floating dtypes.
template <class Wide, class Formula, size_t... K>
__global__ void __launch_bounds__(threads, 4)
    map_any_kernel(const Formula formula, const __grid_constant__ Operands<sizeof...(K)> operands,
                   int64_t n, std::index_sequence<K...>) {
  const int64_t first = static_cast<int64_t>(blockIdx.x) * (threads * each_thread) + threadIdx.x;
  Wide x[each_thread][sizeof...(K)];
#pragma unroll
  for (int u = 0; u < each_thread; ++u)
    if (first + u * threads < n)
      ((x[u][K] = load_any<Wide>(operands.data[K], first + u * threads, operands.dtype[K])), ...);
#pragma unroll
  for (int u = 0; u < each_thread; ++u) {
    const int64_t i = first + u * threads;
    if (i >= n) continue;
    formula(x[u][K]...);
    ((K < Formula::outs ? store_any(operands.data[K], i, operands.dtype[K], x[u][K]) : void()),
     ...);
  }
}

template <class T, size_t>
using Same = T;

template <class Formula, size_t... K>
void map_over(const kernel::Map<Formula>& args, std::index_sequence<K...>) {
  constexpr int outs = Formula::outs, N = sizeof...(K);
  const std::array<In, N> operands{
      (K < outs ? In(args.outs[K < outs ? K : 0]) : args.ins[K < outs ? 0 : K - outs])...};
  const Shape& shape = args.outs[0].shape;
  const DType dtype = args.outs[0].dtype;
  const int64_t n = shape.elements();
  if (n == 0) return;
  if (((operands[K].dtype == dtype) && ...)) {
    // One run of numbers, whatever their shapes.
    const Shape run{n}, step{1};
    std::array<In, N> flat = operands;
    for (In& one : flat) one.shape = run, one.strides = step;
    with_float(dtype, [&]<class T>(T) {
      each<outs, WideOf<T>, false>(Types<Same<T, K>...>(), args.formula, run, flat, true);
    });
    return;
  }
  Operands<N> any{};
  for (int k = 0; k < N; ++k)
    any.data[k] = const_cast<void*>(operands[k].data), any.dtype[k] = operands[k].dtype;
  with_bool(dtype == DType::f64, [&]<class Double>(Double) {
    using Wide = std::conditional_t<Double::value, double, float>;
    const auto blocks = static_cast<uint32_t>(ceil_div(n, threads * each_thread));
    map_any_kernel<Wide>
        <<<blocks, threads, 0, stream()>>>(args.formula, any, n, std::index_sequence<K...>());
    CUDA_CHECK_LAUNCH(map_any_kernel);
  });
}

}  // namespace

template <class Formula>
void map(const kernel::Map<Formula>& args, void*) {
  map_over(args, std::make_index_sequence<Formula::outs + Formula::ins>());
}

template void map(const kernel::Map<fold::Add>&, void*);
template void map(const kernel::Map<fold::AddTwo>&, void*);
template void map(const kernel::Map<fold::AddThree>&, void*);
template void map(const kernel::Map<fold::Kahan>&, void*);
template void map(const kernel::Map<fold::Average>&, void*);
template void map(const kernel::Map<fold::Swap>&, void*);

}  // namespace accrue::cuda
