// Operands of matrix tiles: squares of 32 lines by 32 terms, in bf16.
#pragma once
#include <cstdint>

#include "accrue/core/dtype.h"

namespace accrue::cpu {

constexpr int64_t strip = 32;              // lines, or terms, of a square
constexpr int64_t square = strip * strip;  // its numbers

/// bf16 numbers whose sum is one Number. An f32 number x, with its 24 significant bits, is exactly
/// h + m + l: h = x rounded to 8 bits, m = x − h rounded to 8 bits, l what is left. Below 2⁻¹⁰³ in
/// magnitude it may lose bits; infinite, or above bf16's largest 3.39e38, it is a NaN.
template <class Number>
constexpr int64_t parts_of = sizeof(Number) == sizeof(float) ? 3 : 1;

/// The lines of an operand: rows of a, columns of b. Number `term` of `line` lies at
/// data[line·ld + term] if along, else at data[term·ld + line].
template <class Number>
struct Lines {
  const Number* data;
  int64_t ld;
  bool along;

  const Number* at(int64_t line, int64_t term) const {
    return data + (along ? line * ld + term : term * ld + line);
  }
};

/// How a square's numbers lie: [line][term] for a, [pair of terms][line][2] for b.
enum class SquareOrder { by_line, by_pair };

/// to = strips of 32 lines, `step` numbers from one to the next; in a strip its squares of 32
/// terms, in a square its parts. Zeros beyond the last line and the last term. Number: float or
/// BFloat16.
template <class Number>
void pack_squares(const Lines<Number>&, int64_t lines, int64_t terms, SquareOrder, uint16_t* to,
                  int64_t step);

inline int64_t strips_of(int64_t n) { return (n + strip - 1) / strip; }

}  // namespace accrue::cpu
