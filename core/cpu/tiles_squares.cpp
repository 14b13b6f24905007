#include "accrue/core/cpu/tiles_squares.h"

#include <algorithm>
#include <cstring>

#include "accrue/core/cpu/vector.h"

namespace accrue::cpu::tiles {
namespace {

constexpr int tile = 16;  // words of a vector, and rows of a square that is transposed at once
using Words = uint32_t __attribute__((vector_size(tile * 4)));
using Halves32 = uint16_t __attribute__((vector_size(tile * 4)));

/// By reference: a vector wider than the build's registers cannot be returned.
template <class Vector>
inline void load(Vector& to, const uint16_t* from) {
  std::memcpy(&to, from, sizeof to);
}
inline void store(uint16_t* to, const Words& words) { std::memcpy(to, &words, sizeof words); }

/// low, high = the 32 pairs (even[i], odd[i]) as words.
inline void interleave(const uint16_t* even, const uint16_t* odd, Words& low, Words& high) {
  Halves32 first, second;
  for (int lane = 0; lane < 2 * tile; ++lane) {
    first[lane] = lane / 2 + lane % 2 * 2 * tile;
    second[lane] = first[lane] + tile;
  }
  Halves32 a, b;
  load(a, even);
  load(b, odd);
  low = reinterpret_cast<Words>(__builtin_shuffle(a, b, first));
  high = reinterpret_cast<Words>(__builtin_shuffle(a, b, second));
}

/// Sixteen words of each of sixteen rows, transposed; `ld` numbers from one row to the next.
inline void store_transposed(Words (&rows)[tile], uint16_t* to, int64_t ld) {
  transpose(rows);
  for (int i = 0; i < tile; ++i) store(to + i * ld, rows[i]);
}

// A square's words are (line, pair of terms). What is read gives all of one line, or all of one
// pair, and is transposed where the order wants the other.

void pack_along(const uint16_t* from, int64_t ld, SquareOrder order, uint16_t* to) {
  if (order == SquareOrder::by_line) {
    for (int64_t i = 0; i < strip; ++i)
      std::memcpy(to + i * strip, from + i * ld, strip * sizeof(uint16_t));
    return;
  }
  for (int64_t half = 0; half < 2; ++half, from += tile * ld) {
    Words rows[tile];
    for (int i = 0; i < tile; ++i) load(rows[i], from + i * ld);
    store_transposed(rows, to + half * strip, 2 * strip);
  }
}

void pack_across(const uint16_t* from, int64_t ld, SquareOrder order, uint16_t* to) {
  Words low[tile], high[tile];
  for (int i = 0; i < tile; ++i, from += 2 * ld) {
    interleave(from, from + ld, low[i], high[i]);
    if (order == SquareOrder::by_line) continue;
    store(to + 2 * i * strip, low[i]);
    store(to + (2 * i + 1) * strip, high[i]);
  }
  if (order == SquareOrder::by_pair) return;
  store_transposed(low, to, strip);
  store_transposed(high, to + tile * strip, strip);
}

}  // namespace

void pack_squares(const Lines& from, int64_t lines, int64_t terms, SquareOrder order, uint16_t* to,
                  int64_t step) {
  const auto pack = [&](int64_t line, int64_t term) {
    uint16_t* place = to + line / strip * step + term * strip;
    const int64_t some_lines = std::min(strip, lines - line);
    const int64_t some_terms = std::min(strip, terms - term);
    Lines part = from.from(line, term);
    uint16_t padded[square];
    if (some_lines < strip || some_terms < strip) {
      std::fill_n(padded, square, 0);
      const int64_t rows = part.along ? some_lines : some_terms;
      const int64_t columns = part.along ? some_terms : some_lines;
      for (int64_t i = 0; i < rows; ++i)
        std::copy_n(part.data + i * part.ld, columns, padded + i * strip);
      part = {padded, strip, part.along};
    }
    (part.along ? pack_along : pack_across)(part.data, part.ld, order, place);
  };
  // In the order in which they lie in memory.
  if (from.along)
    for (int64_t line = 0; line < lines; line += strip)
      for (int64_t term = 0; term < terms; term += strip) pack(line, term);
  else
    for (int64_t term = 0; term < terms; term += strip)
      for (int64_t line = 0; line < lines; line += strip) pack(line, term);
}

}  // namespace accrue::cpu::tiles
