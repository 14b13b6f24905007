// What runs beside the tiles' products: a block on its way to its place, and reading ahead.
#pragma once
#include <algorithm>

#include "accrue/core/cpu/dense.h"
#include "accrue/core/cpu/matmul_parts.h"

namespace accrue::cpu::tiles {

/// The part of c that is made at once.
struct Block {
  int64_t row = 0, rows = 0, column = 0, columns = 0;
};

/// A block of the product on its way from the cache to c = or += product + bias, a piece of a row
/// at a time.
struct Delivery {
  using Put = void (*)(const Product&, const float*, int64_t row, int64_t column, int64_t columns);

  Put put = nullptr;
  const Product* p = nullptr;
  const float* product = nullptr;
  int64_t ld = 0;
  Block left;
  int64_t piece = 0;  // columns: what a core works through beside a step of the tiles; measured
  int64_t at = 0;

  bool done() const { return left.rows == 0; }
  int64_t pieces() const { return done() ? 0 : left.rows * ((left.columns + piece - 1) / piece); }
  void step() {
    const int64_t count = std::min(piece, left.columns - at);
    put(*p, product + at, left.row, left.column + at, count);
    if (p->activation) activate(*p, left.row, 1, left.column + at, count);
    if ((at += count) < left.columns) return;
    at = 0;
    ++left.row;
    --left.rows;
    product += ld;
  }
};

template <class Out, Write write>
void put_piece(const Product& p, const float* product, int64_t row, int64_t column,
               int64_t columns) {
  Out* c = static_cast<Out*>(p.args.c.data) + row * p.c.ld + column;
  // The lines of c that come next: two rows on where rows are short, a little on where one is long.
  const int64_t ahead = write == Write::set ? 2 * p.c.ld : 128;
  for (int64_t j = 0; j < columns; j += 64 / sizeof(Out)) __builtin_prefetch(c + ahead + j, 1);
  const auto* bias = static_cast<const BFloat16*>(p.args.bias.data);
  by_register(0, columns, [=](int64_t j, auto mover) {
    const Floats value = mover.load(product + j);
    put(Writing<write>{}, mover, c + j, bias ? value + mover.load(bias + column + j) : value);
  });
}

inline Delivery::Put put_of(const Product& p) {
  if (p.args.c.dtype == DType::f32)
    return p.add() ? put_piece<float, Write::add> : put_piece<float, Write::set>;
  return p.add() ? put_piece<BFloat16, Write::add> : put_piece<BFloat16, Write::set>;
}

/// A part of a matrix that will be read soon, brought to the second-level cache line by line.
struct Ahead {
  const char* row = nullptr;
  int64_t rows = 0, bytes = 0, ld = 0;  // bytes of a row and from row to row
  int64_t each = 0, at = 0;             // lines at every call

  Ahead() = default;
  Ahead(const uint16_t* from, int64_t rows, int64_t columns, int64_t ld, int64_t calls)
      : row(reinterpret_cast<const char*>(from)), rows(rows), bytes(columns * 2), ld(ld * 2) {
    each = (rows * ((bytes + 63) / 64) + calls - 1) / calls;
  }
  void operator()() {
    for (int64_t line = 0; line < each && rows > 0; ++line) {
      __builtin_prefetch(row + at, 0, 2);
      if ((at += 64) < bytes) continue;
      at = 0;
      row += ld;
      --rows;
    }
  }
};

}  // namespace accrue::cpu::tiles
