// How the sorted rows of an embedding's gradient are shared out. Plain C++, so that tests run it
// without a GPU.
#pragma once
#include <cstdint>

#include "accrue/core/functors/host_device.h"
#include "accrue/cuda/layout.h"

namespace accrue::cuda {

/// Rows sorted by id, in chunks of `chunk`. A run of one id that ends in the chunk where it begins
/// is added to the table at once. One that goes on leaves a sum in each chunk it touches: the
/// chunk's `tail`, where it begins and goes on, or its `head`, where it came from before. The chunk
/// where it begins adds them up in order. So a run of any length is shared by many blocks.
struct SortedRuns {
  static constexpr int64_t chunk = 32;

  const int32_t* ids;  // sorted
  int64_t rows;

  ACCRUE_HD int64_t first(int64_t of) const { return of * chunk; }
  ACCRUE_HD int64_t last(int64_t of) const {
    return (of + 1) * chunk < rows ? (of + 1) * chunk : rows;
  }
  /// Whether the first run of a chunk began before it.
  ACCRUE_HD bool comes(int64_t of) const { return of > 0 && ids[first(of)] == ids[first(of) - 1]; }
  /// Whether the last run of a chunk goes on behind it.
  ACCRUE_HD bool goes_on(int64_t of) const {
    return last(of) < rows && ids[last(of)] == ids[last(of) - 1];
  }
  /// Whether the run that goes on began in this chunk.
  ACCRUE_HD bool begins(int64_t of) const {
    return goes_on(of) && !(comes(of) && ids[first(of)] == ids[last(of) - 1]);
  }
  /// The chunk behind those that a run which begins in `of` touches.
  ACCRUE_HD int64_t end_of_run(int64_t of) const {
    const int32_t id = ids[last(of) - 1];
    int64_t next = of + 1;
    while (first(next) < rows && ids[first(next)] == id) ++next;
    return next;
  }
  static int64_t chunks(int64_t rows) { return ceil_div(rows, chunk); }
};

/// The parts of the workspace, in bytes from its start, each aligned to 256.
struct EmbeddingWorkspace {
  size_t keys, rows, sorted_rows, sums, sort, total;

  EmbeddingWorkspace(int64_t count, int64_t columns, size_t wide_bytes, size_t sort_bytes) {
    size_t at = 0;
    const auto take = [&at](size_t bytes) {
      const size_t before = at;
      at += (bytes + 255) / 256 * 256;
      return before;
    };
    keys = take(count * sizeof(int32_t));
    rows = take(count * sizeof(int32_t));
    sorted_rows = take(count * sizeof(int32_t));
    sums = take(2 * SortedRuns::chunks(count) * columns * wide_bytes);  // heads, then tails
    sort = take(sort_bytes);
    total = at;
  }
};

}  // namespace accrue::cuda
