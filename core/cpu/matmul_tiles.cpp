// Products in bf16 on matrix tiles (AMX). A library's kernel reads and writes a weight's sum tile
// by tile, in rows a page apart: each line then waits for memory. Here a block of the product is
// made in the cache and then put where it belongs as one stream.
#include <omp.h>

#include <algorithm>
#include <cstring>
#include <utility>

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

int64_t whole_strips(int64_t n) { return (n + strip - 1) / strip * strip; }

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

/// to [32, 32] = or += a [32, K]·b; a in squares of 32 terms, b in blocks of 32 columns. Adding
/// goes on where the terms before stopped: the bits do not depend on where K was cut. meanwhile(),
/// called once for every 32 terms, runs while the tiles multiply.
template <class Meanwhile>
void multiply_strip(const uint16_t* a, const uint16_t* b, int64_t K, float* to, int64_t ld,
                    bool add, const Meanwhile& meanwhile) {
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
  for (int64_t k = 0; k < K; k += strip, a += strip * strip, b += strip * strip) {
    _tile_loadd(4, a, strip * 2);
    _tile_loadd(6, b, strip * 4);
    _tile_loadd(7, b + strip, strip * 4);
    _tile_loadd(5, a + tile * strip, strip * 2);
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

bool have_tiles() { return false; }
struct Tiles {};
void multiply_strip(auto&&...) {}

#endif

/// Blocks of c for the threads to share out, and terms that are taken at once: a block and its
/// parts of a and b lie in the second-level cache, a strip's part of b in the first-level cache.
struct Cut {
  int64_t rows, columns, terms;  // of a block, whole strips
  int64_t row_blocks, column_blocks;
  int64_t group;  // blocks of rows whose part of a is packed at once; 0: that of some terms only
  enum { kept, shared, own } b;  // where b is packed: with the weight; in the workspace; by block

  explicit Cut(const Product& p) {
    // Measured with 2 MB and 48 KB of cache a core; half and twice as much cost 5 to 30 %. The b of
    // a large vocabulary is read from memory anyway.
    constexpr int64_t most_terms = 384, most_held = 1 << 18, largest_b = 1 << 24;
    const int64_t threads = omp_get_max_threads();
    const int64_t parts = (p.K + most_terms - 1) / most_terms;
    terms = whole_strips((p.K + parts - 1) / parts);
    b = p.K * p.N > largest_b ? own : p.args.b.packs ? kept : shared;
    // Few terms into f32: whole rows of c, as one stream from and to memory.
    const bool stream = parts == 1 && p.args.c.dtype == DType::f32;
    const int64_t most_rows = stream ? strip : 256;
    row_blocks = (p.M + most_rows - 1) / most_rows;
    rows = whole_strips((p.M + row_blocks - 1) / row_blocks);
    group = std::min(most_held / p.K / rows, (row_blocks + threads - 1) / threads);
    const int64_t most_columns = stream || !group ? 768 : 128;
    column_blocks = (p.N + most_columns - 1) / most_columns;
    while (row_blocks * column_blocks % threads && row_blocks * column_blocks < 8 * threads &&
           column_blocks * strip < p.N)
      ++column_blocks;
    columns = whole_strips((p.N + column_blocks - 1) / column_blocks);
    column_blocks = (p.N + columns - 1) / columns;
  }

  size_t a_bytes(int64_t K) const {
    return rows * (group ? group * whole_strips(K) : terms) * sizeof(uint16_t);
  }
  size_t b_bytes() const { return b == own ? terms * columns * sizeof(uint16_t) : 0; }
  size_t product_bytes() const { return rows * columns * sizeof(float); }
  size_t thread_bytes(int64_t K) const { return a_bytes(K) + b_bytes() + 2 * product_bytes(); }
};

size_t packed_bytes(const Product& p) {
  return whole_strips(p.K) * whole_strips(p.N) * sizeof(uint16_t);
}

/// b in blocks of 32 columns, each of all `terms`.
Packing packing_of(int64_t terms) { return {strip, 2, strip * strip, whole_strips(terms) * strip}; }

Packs::Entry& kept_entry(const Product& p) {
  const uint64_t layout = static_cast<uint64_t>(p.K) << 33 ^ p.N << 1 ^ p.b.transposed;
  return p.args.b.packs->entry(layout, packed_bytes(p), Device::cpu());
}

/// All of b, packed; null where each thread packs its blocks.
const uint16_t* packed_b(const Product& p, const Cut& cut, void* workspace) {
  if (cut.b == Cut::own) return nullptr;
  auto* place = static_cast<uint16_t*>(workspace);
  if (cut.b == Cut::kept) {
    Packs::Entry& kept = kept_entry(p);
    place = reinterpret_cast<uint16_t*>(kept.data.data<uint8_t>());
    if (std::exchange(kept.valid, true)) return place;
  }
  pack_matrix(p.args.b.data, p.b, p.K, p.N, packing_of(p.K), place);
  return place;
}

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

Delivery::Put put_of(const Product& p) {
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

/// One thread's way through its blocks.
class Worker {
 public:
  Worker(const Product& p, const Cut& cut, const uint16_t* b, char* memory)
      : p_(p),
        cut_(cut),
        packed_b_(b),
        put_(put_of(p)),
        product_(reinterpret_cast<float*>(memory)),
        other_(reinterpret_cast<float*>(memory + cut.product_bytes())),
        a_(reinterpret_cast<uint16_t*>(memory + 2 * cut.product_bytes())),
        b_(a_ + cut.a_bytes(p.K) / sizeof(uint16_t)) {}

  /// Block by block along the rows. While a block is made, the one before is delivered.
  void run(int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) make(block);
    while (!delivery_.done()) delivery_.step();
  }

 private:
  struct Blocks {
    const uint16_t* data;
    int64_t step;  // from 32 columns to the next
  };

  void make(int64_t block) {
    const int64_t row = block / cut_.column_blocks * cut_.rows;
    const int64_t column = block % cut_.column_blocks * cut_.columns;
    block_ = {row, std::min(cut_.rows, p_.M - row), column, std::min(cut_.columns, p_.N - column)};
    if (cut_.group && block_.row >= held_last_) {
      held_ = block_.row;
      held_last_ = std::min(block_.row + cut_.group * cut_.rows, p_.M);
      pack_a(held_, held_last_ - held_, 0, p_.K, a_);
    }
    for (int64_t term = 0; term < p_.K; term += cut_.terms) {
      const int64_t terms = std::min(cut_.terms, p_.K - term);
      if (!cut_.group) pack_a(block_.row, block_.rows, term, terms, a_);
      multiply(part_of_b(term, terms), term, terms);
    }
    while (!delivery_.done()) delivery_.step();
    delivery_ = {put_, &p_, product_, cut_.columns, block_, p_.activation ? 64 : 128};
    std::swap(product_, other_);
  }

  /// Strips of 32 rows, each in squares of 32 terms.
  void pack_a(int64_t row, int64_t rows, int64_t term, int64_t terms, uint16_t* to) const {
    const auto* from = static_cast<const uint16_t*>(p_.args.a.data);
    const int64_t ld = p_.a.ld, width = whole_strips(terms);
    if (rows % strip || terms % strip) std::fill_n(to, whole_strips(rows) * width, 0);
    if (p_.a.transposed) {
      for (int64_t k = 0; k < terms; k += strip)
        for (int64_t i = 0; i < rows; i += strip)
          transpose_block(from + (term + k) * ld + row + i, ld, std::min(strip, terms - k),
                          std::min(strip, rows - i), to + i * width + k * strip, strip);
      return;
    }
    for (int64_t i = 0; i < rows; ++i) {
      const uint16_t* line = from + (row + i) * ld + term;
      uint16_t* place = to + i / strip * strip * width + i % strip * strip;
      int64_t k = 0;
      for (; k + strip <= terms; k += strip)
        std::memcpy(place + k * strip, line + k, strip * sizeof(uint16_t));
      std::copy_n(line + k, terms - k, place + k * strip);
    }
  }

  Blocks part_of_b(int64_t term, int64_t terms) {
    if (packed_b_) {
      const int64_t step = whole_strips(p_.K) * strip;
      return {packed_b_ + block_.column / strip * step + term * strip, step};
    }
    const auto* from =
        static_cast<const uint16_t*>(p_.args.b.data) +
        (p_.b.transposed ? block_.column * p_.b.ld + term : term * p_.b.ld + block_.column);
    pack_matrix(from, p_.b, terms, block_.columns, packing_of(terms), b_);
    return {b_, whole_strips(terms) * strip};
  }

  void multiply(Blocks b, int64_t term, int64_t terms) {
    const int64_t depth = whole_strips(terms), strips = whole_strips(block_.rows) / strip;
    const int64_t width = cut_.group ? whole_strips(p_.K) : depth;  // of a's strips
    const uint16_t* a = a_ + (cut_.group ? (block_.row - held_) * width + term * strip : 0);
    const int64_t calls = whole_strips(block_.columns) / strip * strips * depth / strip;
    const int64_t all = calls * ((p_.K - term + cut_.terms - 1) / cut_.terms);
    const int64_t pieces = (delivery_.pieces() + all - 1) / all;
    Ahead next_a = cut_.group ? Ahead() : next_of_a(term + terms, calls);
    Ahead next_b = packed_b_ ? Ahead() : next_of_b(term + terms, calls);
    const auto meanwhile = [&] {
      next_a();
      next_b();
      for (int64_t piece = 0; piece < pieces && !delivery_.done(); ++piece) delivery_.step();
    };
    for (int64_t j = 0; j < block_.columns; j += strip, b.data += b.step) {
      // A single strip sweeps over a b that the cache holds.
      if (packed_b_ && strips > 1)
        next_b = {b.data + b.step, 1, depth * strip, 0, strips * depth / strip};
      for (int64_t i = 0; i < block_.rows; i += strip)
        multiply_strip(a + i * width, b.data, depth, product_ + i * cut_.columns + j, cut_.columns,
                       term > 0, meanwhile);
    }
  }

  /// What pack_a reads next of a block.
  Ahead next_of_a(int64_t term, int64_t calls) const {
    const int64_t terms = std::min(cut_.terms, p_.K - term);
    const auto* a = static_cast<const uint16_t*>(p_.args.a.data);
    if (terms <= 0) return {};
    if (p_.a.transposed)
      return {a + term * p_.a.ld + block_.row, terms, block_.rows, p_.a.ld, calls};
    return {a + block_.row * p_.a.ld + term, block_.rows, terms, p_.a.ld, calls};
  }

  /// What part_of_b packs next.
  Ahead next_of_b(int64_t term, int64_t calls) const {
    const int64_t column = term < p_.K ? block_.column : block_.column + cut_.columns;
    if (term >= p_.K) term = 0;
    const int64_t terms = std::min(cut_.terms, p_.K - term);
    const int64_t columns = std::min(cut_.columns, p_.N - column);
    const auto* b = static_cast<const uint16_t*>(p_.args.b.data);
    if (columns <= 0) return {};
    if (p_.b.transposed) return {b + column * p_.b.ld + term, columns, terms, p_.b.ld, calls};
    return {b + term * p_.b.ld + column, terms, columns, p_.b.ld, calls};
  }

  const Product& p_;
  const Cut& cut_;
  const uint16_t* packed_b_;
  Delivery::Put put_;
  float *product_, *other_;
  uint16_t *a_, *b_;
  Block block_;
  int64_t held_ = 0, held_last_ = 0;  // rows of a that are packed
  Delivery delivery_;
};

}  // namespace

bool takes_tiles(const Product& p) {
  return (p.plain(DType::bf16, DType::bf16) || p.plain(DType::bf16, DType::f32)) && p.M >= strip &&
         p.N >= strip && p.K >= strip &&
         (!p.args.bias || (p.args.bias.dtype == DType::bf16 && p.args.bias.strides[0] == 1)) &&
         have_tiles();
}

size_t tiles_workspace(const Product& p) {
  const Cut cut(p);
  if (cut.b == Cut::kept) kept_entry(p);
  return omp_get_max_threads() * cut.thread_bytes(p.K) +
         (cut.b == Cut::shared ? packed_bytes(p) : 0);
}

void multiply_tiles(const Product& p, void* workspace) {
  const Cut cut(p);
  char* const memory = static_cast<char*>(workspace);
  const uint16_t* b = packed_b(p, cut, memory + omp_get_max_threads() * cut.thread_bytes(p.K));
  const int64_t blocks = cut.row_blocks * cut.column_blocks;
#pragma omp parallel
  {
    const int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
    Worker worker(p, cut, b, memory + thread * cut.thread_bytes(p.K));
    [[maybe_unused]] const Tiles tiles;
    worker.run(blocks * thread / threads, blocks * (thread + 1) / threads);
  }
}

}  // namespace accrue::cpu
