// The CPU's matrix tiles (AMX), and what they make at once: a square of 32 × 32 numbers.
#pragma once
#include "accrue/core/cpu/tiles_squares.h"

#if defined(__AMX_BF16__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#endif

namespace accrue::cpu {

#if defined(__AMX_BF16__)

/// Asks Linux once for the tiles' registers.
inline bool have_tiles() {
  constexpr int request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool granted =
      __builtin_cpu_supports("amx-bf16") && syscall(SYS_arch_prctl, request, tile_data) == 0;
  return granted;
}

/// The calling thread's tiles, all of 16 rows of 64 bytes.
struct Tiles {
  Tiles() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14]{};
      uint16_t bytes[16]{};
      uint8_t rows[16]{};
    } shape;
    std::fill_n(shape.bytes, 8, 64);
    std::fill_n(shape.rows, 8, strip / 2);
    _tile_loadconfig(&shape);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
};

/// Tiles 0 to 3 += tiles 4, 5 (a) times tiles 6, 7 (b).
inline void multiply_square() {
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}
inline void load_a(const uint16_t* a) {
  _tile_loadd(4, a, strip * 2);
  _tile_loadd(5, a + square / 2, strip * 2);
}
inline void load_b(const uint16_t* b) {
  _tile_loadd(6, b, strip * 4);
  _tile_loadd(7, b + strip, strip * 4);
}

/// Six products of parts make one of f32 numbers: those left out are below 2⁻²³ of it. In an order
/// in which only one operand changes from one to the next.
inline void multiply_parts(const uint16_t* a, const uint16_t* b) {
  const uint16_t *a_middle = a + square, *a_low = a + 2 * square;
  const uint16_t *b_middle = b + square, *b_low = b + 2 * square;
  load_a(a);
  load_b(b_low);
  multiply_square();
  load_b(b_middle);
  multiply_square();
  load_a(a_middle);
  multiply_square();
  load_b(b);
  multiply_square();
  load_a(a_low);
  multiply_square();
  load_a(a);
  multiply_square();
}

/// to [32, 32] = or += a·b over so many squares of each, of Numbers. Adding goes on where the terms
/// before stopped: the bits do not depend on where they were cut. meanwhile(), called once for
/// every square, runs while the tiles multiply.
template <class Number, class Meanwhile>
void multiply_strip(const uint16_t* a, const uint16_t* b, int64_t squares, float* to, int64_t ld,
                    bool add, const Meanwhile& meanwhile) {
  constexpr int64_t tile = strip / 2, step = parts_of<Number> * square;
  if (add) {
    _tile_loadd(0, to, ld * 4);
    _tile_loadd(1, to + tile, ld * 4);
    _tile_loadd(2, to + tile * ld, ld * 4);
    _tile_loadd(3, to + tile * ld + tile, ld * 4);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t k = 0; k < squares; ++k, a += step, b += step) {
    if constexpr (parts_of<Number> == 1) {
      _tile_loadd(4, a, strip * 2);
      load_b(b);
      _tile_loadd(5, a + square / 2, strip * 2);
      multiply_square();
    } else {
      multiply_parts(a, b);
    }
    meanwhile();
  }
  _tile_stored(0, to, ld * 4);
  _tile_stored(1, to + tile, ld * 4);
  _tile_stored(2, to + tile * ld, ld * 4);
  _tile_stored(3, to + tile * ld + tile, ld * 4);
}

#else

inline bool have_tiles() { return false; }
struct Tiles {};
template <class Number>
void multiply_strip(auto&&...) {}

#endif

}  // namespace accrue::cpu
