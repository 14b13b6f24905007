// How a product is cut into blocks for matrix tiles.
#pragma once
#include <omp.h>

#include <algorithm>

#include "accrue/core/cpu/matmul_parts.h"
#include "accrue/core/cpu/tiles_squares.h"

namespace accrue::cpu::tiles {

/// Blocks of c for the threads to share out, and terms that are taken at once: a block and its
/// parts of a and b lie in the second-level cache, a strip's part of b in the first-level cache.
struct Cut {
  int64_t rows, columns, terms;  // of a block, whole strips
  int64_t row_blocks, column_blocks;
  int64_t group;  // blocks of rows whose part of a is packed at once; 0: that of some terms only
  enum { kept, shared, own } b;  // where b is packed: with the weight; in the workspace; by block

  explicit Cut(const Product& p) {
    // Measured with 2 MB and 48 KB of cache a core; half and twice as much cost 5 to 30 %. The b of
    // a large vocabulary is read from memory anyway.
    constexpr int64_t most_terms = 384, most_held = 1 << 18, largest_b = 1 << 24;
    const int64_t threads = omp_get_max_threads();
    const int64_t parts = (p.K + most_terms - 1) / most_terms;
    terms = whole_strips((p.K + parts - 1) / parts);
    b = p.K * p.N > largest_b ? own : p.args.b.packs ? kept : shared;
    // Few terms into f32: whole rows of c, as one stream from and to memory.
    const bool stream = parts == 1 && p.args.c.dtype == DType::f32;
    const int64_t most_rows = stream ? strip : 256;
    row_blocks = (p.M + most_rows - 1) / most_rows;
    rows = whole_strips((p.M + row_blocks - 1) / row_blocks);
    group = std::min(most_held / p.K / rows, (row_blocks + threads - 1) / threads);
    const int64_t most_columns = stream || !group ? 768 : 128;
    column_blocks = (p.N + most_columns - 1) / most_columns;
    while (row_blocks * column_blocks % threads && row_blocks * column_blocks < 8 * threads &&
           column_blocks * strip < p.N)
      ++column_blocks;
    columns = whole_strips((p.N + column_blocks - 1) / column_blocks);
    column_blocks = (p.N + columns - 1) / columns;
  }

  /// bf16 numbers from one strip of `terms` to the next.
  int64_t step(int64_t terms) const { return whole_strips(terms) * strip; }

  size_t a_bytes(int64_t K) const {
    return rows / strip * (group ? group * step(K) : step(terms)) * sizeof(uint16_t);
  }
  size_t b_bytes() const { return b == own ? columns / strip * step(terms) * sizeof(uint16_t) : 0; }
  size_t product_bytes() const { return rows * columns * sizeof(float); }
  size_t thread_bytes(int64_t K) const { return a_bytes(K) + b_bytes() + 2 * product_bytes(); }
  /// All of b.
  size_t packed_bytes(const Product& p) const {
    return strips_of(p.N) * step(p.K) * sizeof(uint16_t);
  }
};

}  // namespace accrue::cpu::tiles
