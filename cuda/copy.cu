// Copy and Scale: any dtypes and strides.
#include "accrue/cuda/dispatch.h"
#include "accrue/cuda/each.cuh"
#include "accrue/cuda/kernels.h"

namespace accrue::cuda {
namespace {

/// y = or += x·factor·number.
template <class Wide>
struct ScaleInto {
  Scalar factor;
  double number;
  bool add;
  Wide total{};
  __device__ void begin() { total = static_cast<Wide>(factor.value<double>() * number); }
  __device__ void operator()(Wide& y, Wide x) const { y = add ? y + x * total : x * total; }
};

constexpr int any_threads = 256;

/// One number at a time, in f64: exact for every dtype but large i64.
__global__ void __launch_bounds__(any_threads)
    copy_any_kernel(In from, Out to, const __grid_constant__ Walk<2> walk, uint32_t count,
                    ScaleInto<double> formula) {
  const uint32_t index = blockIdx.x * any_threads + threadIdx.x;
  if (index >= count) return;
  formula.begin();
  int64_t offset[2];
  walk.offsets(index, offset);
  double y = formula.add ? load_any<double>(to.data, offset[0], to.dtype) : 0;
  formula(y, load_any<double>(from.data, offset[1], from.dtype));
  store_any(to.data, offset[0], to.dtype, y);
}

void scale_any(const In& from, const Out& to, const ScaleInto<double>& formula) {
  const In target = to;
  const Loops<2> loops(to.shape, {&target, &from});
  if (loops.elements() == 0) return;
  loops.parts(most_vectors, 1, [&](const Loops<2>& part) {
    In source = from;
    Out place = to;
    place.data = static_cast<char*>(to.data) + part.start[0] * size_of(to.dtype);
    source.data = static_cast<const char*>(from.data) + part.start[1] * size_of(from.dtype);
    const auto count = static_cast<uint32_t>(part.elements());
    const auto blocks = static_cast<uint32_t>(ceil_div(count, any_threads));
    copy_any_kernel<<<blocks, any_threads, 0, stream()>>>(source, place, Walk<2>(part, 1), count,
                                                          formula);
    CUDA_CHECK_LAUNCH(copy_any_kernel);
  });
}

/// to = or += from·factor·number.
void scale_into(const In& from, const Scalar& factor, double number, const Out& to, Write write) {
  const bool add = write == Write::add;
  // f64 beside a shorter format is rare, as are whole numbers.
  if (!is_floating(from.dtype) || !is_floating(to.dtype) ||
      (from.dtype != to.dtype && (from.dtype == DType::f64 || to.dtype == DType::f64)))
    return scale_any(from, to, {factor, number, add});
  with_float(from.dtype, [&]<class From>(From) {
    with_float(to.dtype, [&]<class To>(To) {
      if constexpr (std::is_same_v<WideOf<From>, WideOf<To>>) {
        const ScaleInto<WideOf<To>> formula{factor, number, add};
        each<1, WideOf<To>, true>(Types<To, From>(), formula, to.shape, {to, from}, add);
      }
    });
  });
}

template <class T>
void move(const In& from, const Out& to) {
  each<1, float, true>(Types<T, T>(), Move(), to.shape, {to, from}, false);
}

}  // namespace

void copy(const kernel::Copy& args, void*) {
  const auto& [from, to, write] = args;
  if (from.dtype != to.dtype || write == Write::add) return scale_into(from, {}, 1, to, write);
  const In target = to;
  const size_t size = size_of(to.dtype);
  if (Loops<2>(to.shape, {&target, &from}).dense()) {
    CUDA_CHECK(cudaMemcpyAsync(to.data, from.data, to.shape.elements() * size,
                               cudaMemcpyDeviceToDevice, stream()));
    return;
  }
  switch (size) {
    case 1:
      return move<uint8_t>(from, to);
    case 2:
      return move<uint16_t>(from, to);
    case 4:
      return move<uint32_t>(from, to);
    default:
      return move<uint64_t>(from, to);
  }
}

void scale(const kernel::Scale& args, void*) {
  scale_into(args.x, Scalar(args.factor), args.number, args.y, args.write);
}

}  // namespace accrue::cuda
