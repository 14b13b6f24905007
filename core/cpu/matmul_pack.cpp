// Layouts for matrix products: oneDNN's blocks, and a transpose. oneDNN's own reorder takes three
// times as long, which counts where a layout serves one product only.
#include <algorithm>
#include <cstring>

#include "accrue/core/cpu/matmul_parts.h"
#include "accrue/core/cpu/vector.h"

namespace accrue::cpu {
namespace {

using Words = uint32_t __attribute__((vector_size(64)));
using Halves = uint16_t __attribute__((vector_size(64)));
constexpr int tile = 16;  // rows and words of a square that is transposed at once

/// By reference: a vector wider than the build's registers cannot be returned.
template <class Vector>
inline void load(Vector& to, const void* from) {
  std::memcpy(&to, from, sizeof to);
}

/// low, high = the 32 pairs (even[i], odd[i]) as words.
inline void interleave(const uint16_t* even, const uint16_t* odd, Words& low, Words& high) {
  Halves first, second;
  for (int lane = 0; lane < 32; ++lane) {
    first[lane] = lane / 2 + lane % 2 * 32;
    second[lane] = first[lane] + 16;
  }
  Halves a, b;
  load(a, even);
  load(b, odd);
  low = reinterpret_cast<Words>(__builtin_shuffle(a, b, first));
  high = reinterpret_cast<Words>(__builtin_shuffle(a, b, second));
}

/// Element by element, with zeros beyond the edges.
template <class T>
void pack_edge(const T* b, MatrixLayout layout, int64_t rows, int64_t columns,
               const Packing& packing, T* to) {
  for (int64_t i = 0; i < tile * packing.pair; ++i)
    for (int64_t j = 0; j < packing.width; ++j) {
      const int64_t at = layout.transposed ? j * layout.ld + i : i * layout.ld + j;
      const int64_t place =
          (i / packing.pair * packing.width + j) * packing.pair + i % packing.pair;
      to[place] = i < rows && j < columns ? b[at] : T{};
    }
}

/// A whole block. Columns of a transposed b are contiguous: sixteen words of one column are the
/// sixteen rows (f32) or pairs of rows (bf16) of the block.
template <class T>
void pack_block(const T* b, MatrixLayout layout, const Packing& packing, T* to) {
  auto* words = reinterpret_cast<uint32_t*>(to);
  const int64_t width = packing.width;
  if (layout.transposed) {
    for (int64_t column = 0; column < width; column += tile) {
      Words rows[tile];
      for (int i = 0; i < tile; ++i) load(rows[i], b + (column + i) * layout.ld);
      transpose(rows);
      for (int i = 0; i < tile; ++i)
        std::memcpy(words + i * width + column, &rows[i], sizeof(Words));
    }
    return;
  }
  for (int i = 0; i < tile; ++i) {
    if constexpr (sizeof(T) == 4) {
      std::memcpy(words + i * width, b + i * layout.ld, width * sizeof(T));
    } else {
      const uint16_t *even = b + 2 * i * layout.ld, *odd = even + layout.ld;
      for (int64_t column = 0; column < width; column += 32) {
        Words low, high;
        interleave(even + column, odd + column, low, high);
        std::memcpy(words + i * width + column, &low, sizeof low);
        std::memcpy(words + i * width + column + tile, &high, sizeof high);
      }
    }
  }
}

template <class T>
void pack_all(const T* b, MatrixLayout layout, int64_t K, int64_t N, const Packing& packing,
              T* to) {
  const int64_t height = tile * packing.pair;
  const int64_t row_blocks = (K + height - 1) / height;
  const int64_t column_blocks = (N + packing.width - 1) / packing.width;
  // A bf16 block takes two tiles of columns at a time.
  const bool whole_tiles = packing.width % (2 * tile) == 0;
  // In the order in which b lies in memory.
  const int64_t inner = layout.transposed ? row_blocks : column_blocks;
#pragma omp parallel for schedule(static) if (K * N > 1 << 14)
  for (int64_t block = 0; block < row_blocks * column_blocks; ++block) {
    const int64_t i = layout.transposed ? block % inner : block / inner;
    const int64_t j = layout.transposed ? block / inner : block % inner;
    const int64_t row = i * height, column = j * packing.width;
    const T* from = b + (layout.transposed ? column * layout.ld + row : row * layout.ld + column);
    T* place = to + i * packing.row_step + j * packing.column_step;
    if (whole_tiles && row + height <= K && column + packing.width <= N)
      pack_block(from, layout, packing, place);
    else
      pack_edge(from, layout, K - row, N - column, packing, place);
  }
}

}  // namespace

void transpose_block(const uint16_t* from, int64_t ld, int64_t rows, int64_t columns, uint16_t* to,
                     int64_t to_ld) {
  constexpr int64_t block = 2 * tile;
  if (rows < block || columns < block) {
    for (int64_t j = 0; j < columns; ++j)
      for (int64_t i = 0; i < rows; ++i) to[j * to_ld + i] = from[i * ld + j];
    return;
  }
  Words left[tile], right[tile];
  for (int i = 0; i < tile; ++i)
    interleave(from + 2 * i * ld, from + (2 * i + 1) * ld, left[i], right[i]);
  transpose(left);
  transpose(right);
  for (int j = 0; j < tile; ++j) {
    std::memcpy(to + j * to_ld, &left[j], sizeof(Words));
    std::memcpy(to + (j + tile) * to_ld, &right[j], sizeof(Words));
  }
}

void pack_matrix(const void* b, MatrixLayout layout, int64_t K, int64_t N, const Packing& packing,
                 void* to) {
  if (packing.pair == 2)
    pack_all(static_cast<const uint16_t*>(b), layout, K, N, packing, static_cast<uint16_t*>(to));
  else
    pack_all(static_cast<const uint32_t*>(b), layout, K, N, packing, static_cast<uint32_t*>(to));
}

}  // namespace accrue::cpu
