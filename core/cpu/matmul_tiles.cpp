// A weight's gradient in bf16 on matrix tiles (AMX). A library's kernel reads and writes the sum
// tile by tile, in rows a page apart: each line then waits for memory. Here a strip of the product
// is made in the cache and added to the sum as one stream.
#include <omp.h>

#include <algorithm>

#include "accrue/core/cpu/dense.h"
#include "accrue/core/cpu/matmul_parts.h"

#if defined(__AMX_BF16__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace accrue::cpu {
namespace {

constexpr int64_t strip = 32;        // rows and columns of four tiles' product
constexpr int64_t tile = strip / 2;  // rows of a tile: of 32 bf16 or 16 f32 numbers

#if defined(__AMX_BF16__)

/// Asks Linux once for the tiles' registers.
bool have_tiles() {
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
    std::fill_n(shape.rows, 8, tile);
    _tile_loadconfig(&shape);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
};

/// to [32, 32] = a [32, K]·b, b packed in blocks of 32 columns.
void multiply_strip(const uint16_t* a, const uint16_t* b, int64_t K, float* to, int64_t ld) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t k = 0; k < K; k += strip, b += strip * strip) {
    _tile_loadd(4, a + k, K * 2);
    _tile_loadd(6, b, strip * 4);
    _tile_loadd(7, b + strip, strip * 4);
    _tile_loadd(5, a + tile * K + k, K * 2);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, to, ld * 4);
  _tile_stored(1, to + tile, ld * 4);
  _tile_stored(2, to + tile * ld, ld * 4);
  _tile_stored(3, to + tile * ld + tile, ld * 4);
}

#else

bool have_tiles() { return false; }
struct Tiles {};
void multiply_strip(const uint16_t*, const uint16_t*, int64_t, float*, int64_t) {}

#endif

/// Brings 32 columns of c to the second-level cache while the tiles multiply.
void prefetch(const float* c, int64_t rows, int64_t ld) {
  for (int64_t row = 0; row < rows; ++row, c += ld) {
    __builtin_prefetch(c, 0, 2);
    __builtin_prefetch(c + tile, 0, 2);
  }
}

/// Rows [first, first + count) of c = or += product.
template <class How>
void deposit(const Product& p, int64_t first, int64_t count, const float* product, int64_t ld,
             How how) {
  float* c = static_cast<float*>(p.args.c.data) + first * p.c.ld;
  for (int64_t row = 0; row < count; ++row, c += p.c.ld, product += ld)
    by_register(0, p.N,
                [=](int64_t i, auto mover) { put(how, mover, c + i, mover.load(product + i)); });
}

/// What lies in the workspace: a's rows, b in blocks, and a strip of the product for each thread.
struct Places {
  int64_t rows, columns;  // of whole strips
  size_t a, b, product;   // bytes
  explicit Places(const Product& p)
      : rows((p.M + strip - 1) / strip * strip),
        columns((p.N + strip - 1) / strip * strip),
        a(rows * p.K * sizeof(uint16_t)),
        b(columns * p.K * sizeof(uint16_t)),
        product(strip * columns * sizeof(float)) {}
};

}  // namespace

bool takes_tiles(const Product& p) {
  constexpr int64_t most_columns = 1024;  // wider sums gained nothing when measured
  return p.plain(DType::bf16, DType::f32) && p.a.transposed && !p.b.transposed && !p.args.b.packs &&
         !p.args.bias && p.K > 0 && p.K % strip == 0 && p.M >= strip && p.N >= strip &&
         p.N <= most_columns && have_tiles();
}

size_t tiles_workspace(const Product& p) {
  const Places places(p);
  return places.a + places.b + omp_get_max_threads() * places.product;
}

void multiply_tiles(const Product& p, void* workspace) {
  const Places places(p);
  auto* const a = static_cast<uint16_t*>(workspace);
  auto* const b = a + places.rows * p.K;
  auto* const products = reinterpret_cast<float*>(b + places.columns * p.K);
  transpose_matrix(static_cast<const uint16_t*>(p.args.a.data), p.a.ld, p.K, p.M, a);
  const Packing packing{strip, 2, strip * strip, p.K * strip};
  pack_matrix(p.args.b.data, p.b, p.K, p.N, packing, b);
#pragma omp parallel
  {
    const int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
    const int64_t strips = places.rows / strip, last = strips * (thread + 1) / threads;
    float* const product = products + thread * strip * places.columns;
    [[maybe_unused]] const Tiles tiles;
    for (int64_t s = strips * thread / threads; s < last; ++s) {
      const int64_t row = s * strip, count = std::min(strip, p.M - row);
      const float* sum = static_cast<const float*>(p.args.c.data) + row * p.c.ld;
      for (int64_t j = 0; j < p.N; j += strip) {
        prefetch(sum + j, count, p.c.ld);
        multiply_strip(a + row * p.K, b + j * p.K, p.K, product + j, places.columns);
      }
      with_write(p.args.write,
                 [&](auto how) { deposit(p, row, count, product, places.columns, how); });
    }
  }
}

}  // namespace accrue::cpu
