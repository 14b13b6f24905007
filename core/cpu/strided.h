// Loops over operands of any strides, and blocks of numbers of any dtype.
#pragma once
#include <algorithm>
#include <array>

#include "accrue/core/cpu/vector.h"
#include "accrue/core/kernels.h"

namespace accrue::cpu {

/// The elements of a shape in row-major order, and N operands that broadcast to it. Neighbouring
/// dimensions that lie densely in every operand are joined: a contiguous call is one loop.
template <int N>
struct Loops {
  using Strides = std::array<int64_t, N>;
  int rank = 0;
  std::array<int64_t, Shape::max_rank> sizes;
  std::array<Strides, Shape::max_rank> strides;

  Loops() = default;
  Loops(const Shape& shape, const std::array<const In*, N>& operands) {
    for (int i = 0; i < shape.rank; ++i) {
      Strides step;
      for (int k = 0; k < N; ++k) {
        const In& operand = *operands[k];
        const int own = i - (shape.rank - operand.shape.rank);  // aligned from the right
        step[k] = own < 0 || operand.shape.dims[own] == 1 ? 0 : operand.strides.dims[own];
      }
      push(shape.dims[i], step);
    }
  }
  /// A further dimension, inside those before.
  void push(int64_t size, const Strides& step) {
    if (size == 1) return;
    bool joins = rank > 0;
    for (int k = 0; k < N && joins; ++k) joins = strides[rank - 1][k] == step[k] * size;
    if (!joins) sizes[rank++] = 1;
    sizes[rank - 1] *= size;
    strides[rank - 1] = step;
  }
  int64_t elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= sizes[i];
    return n;
  }
  /// Strides within a run.
  Strides inner() const { return rank > 0 ? strides[rank - 1] : Strides{}; }

  /// body(offsets, n) for every run of the innermost dimension in the elements [first, last).
  template <class Body>
  void walk(int64_t first, int64_t last, const Body& body) const {
    if (first >= last) return;
    if (rank == 0) return body(Strides{}, last - first);
    std::array<int64_t, Shape::max_rank> index;
    int64_t rest = first;
    for (int i = rank - 1; i >= 0; --i) {
      index[i] = rest % sizes[i];
      rest /= sizes[i];
    }
    while (first < last) {
      Strides offsets{};
      for (int i = 0; i < rank; ++i)
        for (int k = 0; k < N; ++k) offsets[k] += index[i] * strides[i][k];
      const int64_t n = std::min(sizes[rank - 1] - index[rank - 1], last - first);
      body(offsets, n);
      first += n;
      index[rank - 1] += n;
      for (int i = rank - 1; i > 0 && index[i] == sizes[i]; --i) {
        index[i] = 0;
        ++index[i - 1];
      }
    }
  }
  /// The same over all elements, shared out among threads.
  template <class Body>
  void parallel(const Body& body) const {
    parallel_rows(elements(), 1, [&](int64_t first, int64_t last) { walk(first, last, body); });
  }
};

/// Elements converted at once where an operation has no loop for its dtypes. In double every dtype
/// but large i64 is exact.
constexpr int64_t block = 256;
/// Reads n ≤ block elements, `stride` apart, from element `offset` on.
void read_block(const In& from, int64_t offset, int64_t stride, int64_t n, double* into);
/// Writes them, by set or by add.
void write_block(
    const double* values, const Out& to, int64_t offset, int64_t stride, int64_t n, Write write);

}  // namespace accrue::cpu
