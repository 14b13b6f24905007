// Where elements lie: index arithmetic that the host plans and kernels follow. Plain C++, so that
// tests run it without a GPU.
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include "accrue/core/functors/host_device.h"
#include "accrue/core/tensor.h"

namespace accrue::cuda {

/// n / divisor for n < 2³¹ by a multiplication. Source: Granlund & Montgomery, "Division by
/// invariant integers using multiplication", PLDI 1994.
struct Divider {
  uint32_t divisor = 1, multiplier = 1, shift = 0;

  Divider() = default;
  explicit Divider(uint32_t by) : divisor(by), shift(std::bit_width(by - 1)) {
    multiplier =
        static_cast<uint32_t>((((uint64_t{1} << shift) - by) << 32) / by + 1);  // beyond 2³²
  }
  ACCRUE_HD uint32_t quotient(uint32_t n) const {
    return (static_cast<uint32_t>((uint64_t{multiplier} * n) >> 32) + n) >> shift;
  }
};

/// Vectors of one launch: below what Divider divides and what a grid can hold.
constexpr int64_t most_vectors = int64_t{1} << 30;

/// The elements of a shape in row-major order, and N operands that broadcast to it. Neighbouring
/// dimensions that lie densely in every operand are joined: a contiguous call has one dimension.
template <int N>
struct Loops {
  int rank = 0;
  int64_t sizes[Shape::max_rank] = {};
  int64_t strides[Shape::max_rank][N] = {};
  int64_t start[N] = {};  // offset of the first element

  Loops() = default;
  Loops(const Shape& shape, const std::array<const In*, N>& operands) {
    for (int i = 0; i < shape.rank; ++i) {
      int64_t step[N];
      for (int k = 0; k < N; ++k) {
        const In& operand = *operands[k];
        const int own = i - (shape.rank - operand.shape.rank);  // aligned from the right
        step[k] = own < 0 || operand.shape.dims[own] == 1 ? 0 : operand.strides.dims[own];
      }
      push(shape.dims[i], step);
    }
  }
  /// A further dimension, inside those before.
  void push(int64_t size, const int64_t (&step)[N]) {
    if (size == 1) return;
    bool joins = rank > 0;
    for (int k = 0; k < N && joins; ++k) joins = strides[rank - 1][k] == step[k] * size;
    if (!joins) sizes[rank++] = 1;
    sizes[rank - 1] *= size;
    std::copy_n(step, N, strides[rank - 1]);
  }
  int64_t elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= sizes[i];
    return n;
  }
  /// Every operand is one dense run.
  bool dense() const {
    if (rank > 1) return false;
    for (int k = 0; rank == 1 && k < N; ++k)
      if (strides[0][k] != 1) return false;
    return true;
  }
  /// Whether `width` neighbours can be moved at once: the inner dimension is dense or repeated in
  /// each operand (the first `outs` may not be repeated), and all else keeps to multiples of
  /// `width`. Ends of a dense run are left to the kernel.
  bool allows(int width, int outs) const {
    if (rank == 0) return false;
    for (int k = 0; k < N; ++k) {
      const int64_t inner = strides[rank - 1][k];
      if (inner != 1 && (inner != 0 || k < outs)) return false;
      for (int i = 0; i + 1 < rank; ++i)
        if (inner == 1 && strides[i][k] % width != 0) return false;
    }
    return rank == 1 || sizes[rank - 1] % width == 0;
  }
  /// body(part) for parts of at most `most` elements, cut along the outermost dimension that can
  /// be; a part's first element is multiple of `width` elements away.
  template <class Body>
  void parts(int64_t most, int64_t width, const Body& body) const {
    if (elements() <= most) return body(*this);
    int cut = 0;
    while (sizes[cut] == 1) ++cut;
    int64_t half = sizes[cut] / 2;
    if (cut == rank - 1 && half > width) half -= half % width;
    Loops first = *this, second = *this;
    first.sizes[cut] = half;
    second.sizes[cut] -= half;
    for (int k = 0; k < N; ++k) second.start[k] += half * strides[cut][k];
    first.parts(most, width, body);
    second.parts(most, width, body);
  }
};

/// Loops as a kernel walks them, `width` elements at a time.
template <int N>
struct Walk {
  int rank = 0;
  uint32_t repeated = 0;  // bit k: the inner dimension of operand k has stride 0
  Divider sizes[Shape::max_rank];
  int64_t strides[Shape::max_rank][N] = {};

  Walk() = default;
  Walk(const Loops<N>& loops, int width) : rank(loops.rank) {
    for (int i = 0; i < rank; ++i) {
      const bool inner = i == rank - 1;
      // A ragged end makes one vector more; a single dimension is never divided by.
      const int64_t size = inner ? (loops.sizes[i] + width - 1) / width : loops.sizes[i];
      sizes[i] = Divider(static_cast<uint32_t>(size));
      for (int k = 0; k < N; ++k) {
        strides[i][k] = loops.strides[i][k] * (inner ? width : 1);
        if (inner && strides[i][k] == 0) repeated |= 1u << k;
      }
    }
  }
  /// Offsets of vector `index` in each operand, in elements.
  ACCRUE_HD void offsets(uint32_t index, int64_t (&offset)[N]) const {
    for (int k = 0; k < N; ++k) offset[k] = 0;
#if defined(__CUDA_ARCH__)
#pragma unroll
#endif
    for (int i = Shape::max_rank - 1; i > 0; --i) {
      if (i >= rank) continue;
      const uint32_t outer = sizes[i].quotient(index);
      const int64_t within = index - outer * sizes[i].divisor;
      for (int k = 0; k < N; ++k) offset[k] += within * strides[i][k];
      index = outer;
    }
    for (int k = 0; k < N; ++k) offset[k] += index * strides[0][k];
  }
};

/// Whether `width` numbers of this size at this address can be moved by accesses of up to 16 bytes.
inline bool is_aligned(const void* address, size_t element, int width) {
  return reinterpret_cast<uintptr_t>(address) % std::min<size_t>(16, element * width) == 0;
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace accrue::cuda
