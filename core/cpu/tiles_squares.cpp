#include "accrue/core/cpu/tiles_squares.h"

#include <algorithm>

#include "accrue/core/cpu/matmul_words.h"

namespace accrue::cpu {
namespace {

typedef float Singles __attribute__((vector_size(tile * 4)));

/// Sixteen numbers as the upper halves of words, part by part; ties away from zero.
inline void split(const float* from, Words (&parts)[3]) {
  Singles rest;
  load_words(rest, from);
  for (int part = 0; part < 2; ++part) {
    parts[part] = (reinterpret_cast<Words>(rest) + 0x8000) & 0xffff0000;
    rest -= reinterpret_cast<Singles>(parts[part]);
  }
  parts[2] = reinterpret_cast<Words>(rest) & 0xffff0000;
}

/// 32 terms of a line as sixteen pairs.
inline void read_line(const float* from, Words (&pairs)[3]) {
  Halves32 upper;
  for (int lane = 0; lane < 2 * tile; ++lane) upper[lane] = 2 * lane + 1;
  Words first[3], second[3];
  split(from, first);
  split(from + tile, second);
  for (int part = 0; part < 3; ++part)
    pairs[part] = reinterpret_cast<Words>(__builtin_shuffle(
        reinterpret_cast<Halves32>(first[part]), reinterpret_cast<Halves32>(second[part]), upper));
}
inline void read_line(const BFloat16* from, Words (&pairs)[1]) { load_words(pairs[0], from); }

/// Two terms of 32 lines as pairs: of the first sixteen lines, then of the others.
inline void read_pairs(const float* even, const float* odd, Words (&pairs)[2][3]) {
  for (int half = 0; half < 2; ++half) {
    Words first[3], second[3];
    split(even + half * tile, first);
    split(odd + half * tile, second);
    for (int part = 0; part < 3; ++part) pairs[half][part] = first[part] >> 16 | second[part];
  }
}
inline void read_pairs(const BFloat16* even, const BFloat16* odd, Words (&pairs)[2][1]) {
  interleave(even, odd, pairs[0][0], pairs[1][0]);
}

/// Sixteen lines or pairs of terms in each of their parts, `ld` numbers from one to the next.
template <int parts>
void store_transposed(Words (&rows)[parts][tile], uint16_t* to, int64_t ld) {
  for (int64_t part = 0; part < parts; ++part) {
    transpose(rows[part]);
    for (int i = 0; i < tile; ++i) store_words(to + part * square + i * ld, rows[part][i]);
  }
}

// A square's words are (line, pair of terms). What is read gives all of one line, or all of one
// pair, and is transposed where the order wants the other.

template <class Number>
void pack_along(const Number* from, int64_t ld, SquareOrder order, uint16_t* to) {
  constexpr int parts = parts_of<Number>;
  Words read[parts], rows[parts][tile];
  for (int64_t half = 0; half < 2; ++half, from += tile * ld) {
    for (int i = 0; i < tile; ++i) {
      read_line(from + i * ld, read);
      for (int64_t part = 0; part < parts; ++part)
        if (order == SquareOrder::by_line)
          store_words(to + part * square + (half * tile + i) * strip, read[part]);
        else
          rows[part][i] = read[part];
    }
    if (order == SquareOrder::by_pair) store_transposed(rows, to + half * strip, 2 * strip);
  }
}

template <class Number>
void pack_across(const Number* from, int64_t ld, SquareOrder order, uint16_t* to) {
  constexpr int parts = parts_of<Number>;
  Words read[2][parts], rows[2][parts][tile];
  for (int i = 0; i < tile; ++i) {
    read_pairs(from + 2 * i * ld, from + (2 * i + 1) * ld, read);
    for (int64_t half = 0; half < 2; ++half)
      for (int64_t part = 0; part < parts; ++part)
        if (order == SquareOrder::by_pair)
          store_words(to + part * square + (2 * i + half) * strip, read[half][part]);
        else
          rows[half][part][i] = read[half][part];
  }
  if (order == SquareOrder::by_line)
    for (int64_t half = 0; half < 2; ++half)
      store_transposed(rows[half], to + half * tile * strip, strip);
}

template <class Number>
void pack_whole(const Number* from, int64_t ld, bool along, SquareOrder order, uint16_t* to) {
  along ? pack_along(from, ld, order, to) : pack_across(from, ld, order, to);
}

}  // namespace

template <class Number>
void pack_squares(const Lines<Number>& from, int64_t lines, int64_t terms, SquareOrder order,
                  uint16_t* to, int64_t step) {
  const auto pack = [&](int64_t line, int64_t term) {
    uint16_t* place = to + line / strip * step + term * strip * parts_of<Number>;
    const int64_t some_lines = std::min(strip, lines - line);
    const int64_t some_terms = std::min(strip, terms - term);
    const Number* numbers = from.at(line, term);
    if (some_lines == strip && some_terms == strip)
      return pack_whole(numbers, from.ld, from.along, order, place);
    Number padded[square]{};
    const int64_t rows = from.along ? some_lines : some_terms;
    const int64_t columns = from.along ? some_terms : some_lines;
    for (int64_t i = 0; i < rows; ++i)
      std::copy_n(numbers + i * from.ld, columns, padded + i * strip);
    pack_whole(padded, strip, from.along, order, place);
  };
  // In the order in which they lie in memory.
  if (from.along)
    for (int64_t line = 0; line < lines; line += strip)
      for (int64_t term = 0; term < terms; term += strip) pack(line, term);
  else
    for (int64_t term = 0; term < terms; term += strip)
      for (int64_t line = 0; line < lines; line += strip) pack(line, term);
}

template void pack_squares(const Lines<float>&, int64_t, int64_t, SquareOrder, uint16_t*, int64_t);
template void pack_squares(const Lines<BFloat16>&, int64_t, int64_t, SquareOrder, uint16_t*,
                           int64_t);

}  // namespace accrue::cpu
