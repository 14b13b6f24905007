// How rows of a normalization are shared out among threads. Plain C++, so that tests run it without
// a GPU.
#pragma once
#include "accrue/cuda/plans.h"

namespace accrue::cuda {

/// A row is held in the registers of a warp or of a block of 256 threads, `vectors` of `width`
/// numbers in each: vector k of thread t covers the columns from (k·threads + t)·width on. Rows
/// that do not fit, or that vectors do not divide, are read again for each pass (vectors = 0).
struct NormPlan {
  static constexpr int block = 256;
  static constexpr int most_vectors_per_thread = 4;

  int64_t rows, columns;
  int width, vectors = 0;
  bool one_warp = false;

  NormPlan(int64_t rows_, int64_t columns_, size_t element, bool aligned)
      : rows(rows_), columns(columns_), width(16 / static_cast<int>(element)) {
    if (!aligned || columns % width != 0) return;
    const int64_t all = columns / width;
    one_warp = all <= 32 * most_vectors_per_thread;
    const int64_t each = ceil_div(all, one_warp ? 32 : block);
    if (each <= most_vectors_per_thread) vectors = static_cast<int>(each);
  }
  int rows_per_block() const { return vectors > 0 && one_warp ? block / 32 : 1; }
};

/// Rows of a backward pass: each chunk's sums for gamma and beta are kept apart.
inline RowChunks norm_chunks(int64_t rows) { return {rows, 16, full_grid}; }

}  // namespace accrue::cuda
