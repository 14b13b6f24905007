// Matrix products that no library call fits: through f32 matrices, kept for a weight, else in the
// workspace.
#include <utility>

#include "accrue/core/cpu/kernels.h"
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

/// The weight b in f32, which lasts for its cycle; null where b is no weight. It has the order of
/// b's own memory, so that x·W and dy·Wᵀ share it.
Packs::Entry* kept_of(const Product& p) {
  constexpr uint64_t in_f32 = 1;  // the layout's name among the weight's Packs
  if (!p.args.b.packs || !p.b.ld || !widens(p.args.b, p.b)) return nullptr;
  return &p.args.b.packs->entry(in_f32, padded(p.K * p.N) * sizeof(float), Device::cpu());
}

/// The numbers of `in` as a dense f32 matrix, transposed where `in` is: both in order of memory.
In widened(const In& in, const MatrixLayout& layout, float* to, bool valid) {
  In from = in;
  const auto turn = [&layout](Shape& sizes) {
    if (layout.transposed) std::swap(sizes[0], sizes[1]);
  };
  turn(from.shape);
  turn(from.strides);
  const Out dense{to, from.shape, contiguous_strides(from.shape), DType::f32};
  if (!valid) copy({from, dense, Write::set}, nullptr);
  In wide = dense;
  turn(wide.shape);
  turn(wide.strides);
  return wide;
}

}  // namespace

size_t fallback_workspace(const Product& p) {
  const bool a = widens(p.args.a, p.a), b = widens(p.args.b, p.b) && !kept_of(p);
  const size_t floats = (a ? padded(p.M * p.K) : 0) + (b ? padded(p.K * p.N) : 0) +
                        (direct(p) ? 0 : padded(p.M * p.N));
  return floats * sizeof(float);
}

void run_fallback(const Product& p, void* workspace) {
  float* free = static_cast<float*>(workspace);
  const auto take = [&](int64_t elements) { return std::exchange(free, free + padded(elements)); };
  kernel::Matmul wide = p.args;
  if (widens(p.args.a, p.a)) wide.a = widened(p.args.a, p.a, take(p.M * p.K), false);
  if (Packs::Entry* kept = kept_of(p)) {
    float* place = reinterpret_cast<float*>(kept->data.data<uint8_t>());
    wide.b = widened(p.args.b, p.b, place, std::exchange(kept->valid, true));
  } else if (widens(p.args.b, p.b)) {
    wide.b = widened(p.args.b, p.b, take(p.K * p.N), false);
  }
  if (direct(p)) return sgemm(Product(wide));
  const Shape& shape = p.args.c.shape;
  wide.c = Out{take(p.M * p.N), shape, contiguous_strides(shape), DType::f32};
  wide.write = Write::set;
  sgemm(Product(wide));
  copy({wide.c, p.args.c, p.args.write}, nullptr);  // rounds once
}

}  // namespace accrue::cpu
