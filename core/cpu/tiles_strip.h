// The CPU's matrix tiles (AMX), and what they make at once: a square of 32 × 32 numbers.
#pragma once
#include "accrue/core/cpu/tiles_squares.h"

#if defined(__AMX_BF16__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#endif

namespace accrue::cpu::tiles {

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

/// to [32, 32] = or += a·b over `squares` squares of each. Adding goes on where the terms before
/// stopped: the bits do not depend on where they were cut. meanwhile(), called once for every
/// square, runs while the tiles multiply.
template <class Meanwhile>
void multiply_strip(const uint16_t* a, const uint16_t* b, int64_t squares, float* to, int64_t ld,
                    bool add, const Meanwhile& meanwhile) {
  constexpr int64_t tile = strip / 2;
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
  for (int64_t k = 0; k < squares; ++k, a += square, b += square) {
    _tile_loadd(4, a, strip * 2);
    _tile_loadd(6, b, strip * 4);
    _tile_loadd(7, b + strip, strip * 4);
    _tile_loadd(5, a + square / 2, strip * 2);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
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
void multiply_strip(auto&&...) {}

#endif

}  // namespace accrue::cpu::tiles
