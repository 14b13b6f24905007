// Matrix products that no library call fits: through f32 matrices in the workspace.
#include "accrue/core/cpu/dispatch.h"
#include "accrue/core/cpu/matmul_parts.h"

namespace accrue::cpu {
namespace {

constexpr size_t align = 16;  // floats in 64 bytes

size_t padded(int64_t elements) { return (elements + align - 1) / align * align; }

bool widens(const In& in, const MatrixLayout& layout) {
  return in.dtype != DType::f32 || layout.ld == 0;
}

/// f32 and plain: sgemm can write there.
bool direct(const Product& p) { return p.args.c.dtype == DType::f32 && p.c.ld && !p.c.transposed; }

/// Row-major f32 numbers of `in`.
void widen(const In& in, float* to) {
  with_float(in.dtype, [&]<class T>(T) {
    const T* from = static_cast<const T*>(in.data);
    const int64_t rows = in.shape[0], columns = in.shape[1];
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j)
        to[i * columns + j] = from[i * in.strides[0] + j * in.strides[1]];
  });
}

/// c = or += from, row-major, rounded once.
void narrow(const Product& p, const float* from) {
  const Out& c = p.args.c;
  with_float(c.dtype, [&]<class T>(T) {
    T* to = static_cast<T*>(c.data);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < p.M; ++i)
      for (int64_t j = 0; j < p.N; ++j) {
        T& place = to[i * c.strides[0] + j * c.strides[1]];
        const float value = from[i * p.N + j];
        place = T(p.add() ? float(place) + value : value);
      }
  });
}

}  // namespace

size_t fallback_workspace(const Product& p) {
  const size_t floats = (widens(p.args.a, p.a) ? padded(p.M * p.K) : 0) +
                        (widens(p.args.b, p.b) ? padded(p.K * p.N) : 0) +
                        (direct(p) ? 0 : padded(p.M * p.N));
  return floats * sizeof(float);
}

void run_fallback(const Product& p, void* workspace) {
  float* free = static_cast<float*>(workspace);
  kernel::Matmul wide = p.args;
  const auto take = [&](const Shape& shape) {
    float* taken = free;
    free += padded(shape.elements());
    return taken;
  };
  const auto widen_if_needed = [&](In& in, const MatrixLayout& layout) {
    if (!widens(in, layout)) return;
    float* to = take(in.shape);
    widen(in, to);
    in = In{to, in.shape, contiguous_strides(in.shape), DType::f32, nullptr};
  };
  widen_if_needed(wide.a, p.a);
  widen_if_needed(wide.b, p.b);
  if (direct(p)) return sgemm(Product(wide));
  wide.c =
      Out{take(p.args.c.shape), p.args.c.shape, contiguous_strides(p.args.c.shape), DType::f32};
  wide.write = Write::set;
  sgemm(Product(wide));
  narrow(p, static_cast<const float*>(wide.c.data));
}

}  // namespace accrue::cpu
