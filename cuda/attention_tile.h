// Steps of fused attention on tensor cores: tiles come to shared memory, a warp multiplies them.
//
// A block has four warps, each with `tiles` times 16 rows of its own. Sums are kept as fragments,
// float[tiles][columns / 8][4]; sum_place() says where a lane's numbers are.
#pragma once
#include "accrue/cuda/attention_args.h"
#include "accrue/cuda/attention_layout.h"

namespace accrue::cuda {

constexpr int block_warps = 4, block_threads = block_warps * warp_size;
constexpr float log2_e = 1.44269504f;

template <int tiles, int columns>
using Sums = float[tiles][columns / 8][4];

template <int tiles, int columns>
ACCRUE_DEVICE void clear(Sums<tiles, columns>& sums) {
  ACCRUE_UNROLL
  for (int m = 0; m < tiles; ++m) ACCRUE_UNROLL
  for (int n = 0; n < columns / 8; ++n) ACCRUE_UNROLL
  for (int i = 0; i < 4; ++i) sums[m][n][i] = 0;
}

/// Begins to copy rows [first, first + rows) of a head to a tile; zeros where there are none.
template <int width, int rows, class Lanes, class T>
ACCRUE_DEVICE void copy_tile(const Lanes& lanes, T* tile, const T* head, int64_t stride, int first,
                             const AttentionSizes& sizes) {
  constexpr int chunks = width / chunk, pass = block_threads / chunks;  // rows copied at once
  static_assert(pass % 8 == 0 && rows % pass == 0, "the swizzle of a pass is that of the first");
  const int row = lanes.thread() / chunks, column = lanes.thread() % chunks * chunk;
  const int limit = column < sizes.width ? sizes.length - first : 0;  // rows that there are
  const T* from = head + (first + row) * stride + column;
  T* to = tile + tile_place(row, column, width);
  ACCRUE_UNROLL
  for (int i = 0; i < rows; i += pass) {
    const bool valid = row + i < limit;
    lanes.copy_16(to + i * width, valid ? from : head, valid);
    from += pass * stride;
  }
}

/// The left factor of 16 rows × 16 terms at (row, term) of a tile.
template <int width, class Lanes, class T>
ACCRUE_DEVICE void load_left(const Lanes& lanes, uint32_t (&words)[4], const T* tile, int row,
                             int term) {
  const Place place = rows_of_terms(lanes.thread() % warp_size);
  const int origin = tile_place(place.row, place.column, width);
  lanes.load_matrices(words, tile + tile_step(origin, row, term, width));
}

/// sums += left·rightᵀ over `width` terms: right is a tile of [columns][terms], left(words, m,
/// term) gives the left factor of row tile m.
template <int width, int tiles, int columns, class Lanes, class T, class Left>
ACCRUE_DEVICE void multiply_by_rows(const Lanes& lanes, Sums<tiles, columns>& sums,
                                    const Left& left, const T* right) {
  const Place place = columns_of_terms(lanes.thread() % warp_size);
  const int origin = tile_place(place.row, place.column, width);
  ACCRUE_UNROLL
  for (int term = 0; term < width; term += 16) {
    uint32_t words[tiles][4];
    ACCRUE_UNROLL
    for (int m = 0; m < tiles; ++m) left(words[m], m, term);
    ACCRUE_UNROLL
    for (int n = 0; n < columns; n += 16) {
      uint32_t pair[4];
      lanes.load_matrices(pair, right + tile_step(origin, n, term, width));
      ACCRUE_UNROLL
      for (int m = 0; m < tiles; ++m) {
        lanes.template multiply<T>(sums[m][n / 8], words[m], pair[0], pair[1]);
        lanes.template multiply<T>(sums[m][n / 8 + 1], words[m], pair[2], pair[3]);
      }
    }
  }
}

/// sums += left·right over `terms` terms: left is a sum of [rows][terms], rounded to T; right a
/// tile of [terms][width].
template <int width, int tiles, int terms, class Lanes, class T>
ACCRUE_DEVICE void multiply_sums(const Lanes& lanes, Sums<tiles, width>& sums,
                                 const Sums<tiles, terms>& left, const T* right) {
  const Place place = rows_of_terms(lanes.thread() % warp_size);
  const int origin = tile_place(place.row, place.column, width);
  ACCRUE_UNROLL
  for (int term = 0; term < terms; term += 16) {
    uint32_t words[tiles][4];
    ACCRUE_UNROLL
    for (int m = 0; m < tiles; ++m) ACCRUE_UNROLL
    for (int i = 0; i < 4; ++i) {
      const float(&pair)[4] = left[m][term / 8 + i / 2];
      words[m][i] = lanes.template pack<T>(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
    }
    ACCRUE_UNROLL
    for (int n = 0; n < width; n += 16) {
      uint32_t pair[4];
      lanes.load_transposed(pair, right + tile_step(origin, term, n, width));
      ACCRUE_UNROLL
      for (int m = 0; m < tiles; ++m) {
        lanes.template multiply<T>(sums[m][n / 8], words[m], pair[0], pair[1]);
        lanes.template multiply<T>(sums[m][n / 8 + 1], words[m], pair[2], pair[3]);
      }
    }
  }
}

/// Writes two neighbours of a row, in one word where the place is aligned to it.
template <class Lanes, class T>
ACCRUE_DEVICE void put_pair(const Lanes& lanes, T* place, float low, float high, bool add) {
  const bool aligned = reinterpret_cast<uintptr_t>(place) % 4 == 0;
  if (add) {
    low += lanes.template widen<float>(place[0]);
    high += lanes.template widen<float>(place[1]);
  }
  const uint32_t word = lanes.template pack<T>(low, high);
  if (aligned) {
    *reinterpret_cast<uint32_t*>(place) = word;
  } else {
    place[0].bits = static_cast<uint16_t>(word);
    place[1].bits = static_cast<uint16_t>(word >> 16);
  }
}

/// Writes the rows of a warp, sums[m]·factor(m, upper), to positions from `first` on.
template <int width, int tiles, class Lanes, class T, class Factor>
ACCRUE_DEVICE void put_rows(const Lanes& lanes, const Sums<tiles, width>& sums,
                            const Factor& factor, T* head, int64_t stride, int first, bool add,
                            const AttentionSizes& sizes) {
  ACCRUE_UNROLL
  for (int m = 0; m < tiles; ++m) ACCRUE_UNROLL
  for (int half = 0; half < 2; ++half) {
    const Place place = sum_place(lanes.thread() % warp_size, half * 2);
    const int position = first + m * 16 + place.row;
    if (position >= sizes.length) continue;
    T* row = head + position * stride;
    const float by = factor(m, half);
    ACCRUE_UNROLL
    for (int n = 0; n < width / 8; ++n) {
      const int column = n * 8 + place.column;
      if (column < sizes.width)
        put_pair(lanes, row + column, sums[m][n][half * 2] * by, sums[m][n][half * 2 + 1] * by,
                 add);
    }
  }
}

}  // namespace accrue::cuda
