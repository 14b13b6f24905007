// Operands of matrix tiles: squares of 32 lines by 32 terms, in bf16.
#pragma once
#include <cstdint>

namespace accrue::cpu::tiles {

constexpr int64_t strip = 32;              // lines, or terms, of a square
constexpr int64_t square = strip * strip;  // its numbers

inline int64_t strips_of(int64_t n) { return (n + strip - 1) / strip; }
inline int64_t whole_strips(int64_t n) { return strips_of(n) * strip; }

/// The lines of an operand: rows of a, columns of b. Number `term` of `line` lies at
/// data[line·ld + term] if along, else at data[term·ld + line].
struct Lines {
  const uint16_t* data;
  int64_t ld;
  bool along;

  Lines from(int64_t line, int64_t term) const {
    return {data + (along ? line * ld + term : term * ld + line), ld, along};
  }
};

/// How a square's numbers lie: [line][term] for a, [pair of terms][line][2] for b.
enum class SquareOrder { by_line, by_pair };

/// to = strips of 32 lines, `step` numbers from one to the next; in a strip its squares of 32
/// terms. Zeros beyond the last line and the last term.
void pack_squares(const Lines&, int64_t lines, int64_t terms, SquareOrder, uint16_t* to,
                  int64_t step);

}  // namespace accrue::cpu::tiles
