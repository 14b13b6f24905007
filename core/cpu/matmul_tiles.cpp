// Products on matrix tiles (AMX): of bf16 numbers, and of f32 numbers in three parts of bf16, whose
// six products can take less time than one on vector registers, and round less often. A library's
// kernel reads and writes a weight's sum tile by tile, in rows a page apart: each line then waits
// for memory. Here a block of the product is made in the cache and then put where it belongs as
// one stream.
#include <atomic>
#include <utility>

#include "accrue/core/cpu/matmul.h"
#include "accrue/core/cpu/tiles_cut.h"
#include "accrue/core/cpu/tiles_delivery.h"
#include "accrue/core/cpu/tiles_strip.h"
#include "accrue/core/cpu/vector.h"

namespace accrue::cpu {
namespace {

std::atomic<bool> f32_on_tiles = false;

template <class Number>
Lines<Number> lines_of_a(const Product& p) {
  return {static_cast<const Number*>(p.args.a.data), p.a.ld, !p.a.transposed};
}
template <class Number>
Lines<Number> lines_of_b(const Product& p) {
  return {static_cast<const Number*>(p.args.b.data), p.b.ld, p.b.transposed};
}

/// `columns` lines by `terms` of an operand from there on, to be read ahead.
template <class Number>
Ahead ahead(const Lines<Number>& from, int64_t line, int64_t lines, int64_t term, int64_t terms,
            int64_t calls) {
  if (lines <= 0 || terms <= 0) return {};
  return {from.at(line, term), from.along ? lines : terms, from.along ? terms : lines, from.ld,
          calls};
}

Packs::Entry& kept_entry(const Product& p, const Cut& cut) {
  const uint64_t layout = static_cast<uint64_t>(p.K) << 33 ^ p.N << 1 ^ p.b.transposed;
  return p.args.b.packs->entry(layout, cut.packed_bytes(p), Device::cpu());
}

/// All of b, packed; null where each thread packs its blocks.
template <class Number>
const uint16_t* packed_b(const Product& p, const Cut& cut, void* workspace) {
  if (cut.b == Cut::own) return nullptr;
  auto* place = static_cast<uint16_t*>(workspace);
  if (cut.b == Cut::kept) {
    Packs::Entry& kept = kept_entry(p, cut);
    place = reinterpret_cast<uint16_t*>(kept.data.data<uint8_t>());
    if (std::exchange(kept.valid, true)) return place;
  }
  // Shared out in the order in which b lies in memory.
  const Lines<Number> lines = lines_of_b<Number>(p);
  const int64_t step = cut.step(p.K);
  const int64_t total = lines.along ? p.N : p.K, other = lines.along ? p.K : p.N;
  parallel_rows(strips_of(total), strip * other, [&](int64_t first, int64_t last) {
    const int64_t from = first * strip, count = std::min(last * strip, total) - from;
    if (lines.along)
      pack_squares<Number>({lines.at(from, 0), lines.ld, true}, count, p.K, SquareOrder::by_pair,
                           place + first * step, step);
    else
      pack_squares<Number>({lines.at(0, from), lines.ld, false}, p.N, count, SquareOrder::by_pair,
                           place + first * square * cut.parts, step);
  });
  return place;
}

/// One thread's way through its blocks.
template <class Number>
class Worker {
 public:
  Worker(const Product& p, const Cut& cut, const uint16_t* b, char* memory)
      : p_(p),
        cut_(cut),
        lines_a_(lines_of_a<Number>(p)),
        lines_b_(lines_of_b<Number>(p)),
        packed_b_(b),
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
      pack_a(held_, held_last_ - held_, 0, p_.K);
    }
    for (int64_t term = 0; term < p_.K; term += cut_.terms) {
      const int64_t terms = std::min(cut_.terms, p_.K - term);
      if (!cut_.group) pack_a(block_.row, block_.rows, term, terms);
      multiply(part_of_b(term, terms), term, terms);
    }
    while (!delivery_.done()) delivery_.step();
    delivery_ = {put_of<Number>(p_),       &p_, product_, cut_.columns, block_,
                 p_.activation ? 64 : 128, 0};
    std::swap(product_, other_);
  }

  void pack_a(int64_t row, int64_t rows, int64_t term, int64_t terms) {
    pack_squares<Number>({lines_a_.at(row, term), lines_a_.ld, lines_a_.along}, rows, terms,
                         SquareOrder::by_line, a_, cut_.step(terms));
  }

  Blocks part_of_b(int64_t term, int64_t terms) {
    if (packed_b_) {
      const int64_t step = cut_.step(p_.K);
      return {packed_b_ + block_.column / strip * step + term * strip * cut_.parts, step};
    }
    const int64_t step = cut_.step(terms);
    pack_squares<Number>({lines_b_.at(block_.column, term), lines_b_.ld, lines_b_.along},
                         block_.columns, terms, SquareOrder::by_pair, b_, step);
    return {b_, step};
  }

  void multiply(Blocks b, int64_t term, int64_t terms) {
    const int64_t squares = strips_of(terms), strips = strips_of(block_.rows);
    const int64_t step = cut_.step(cut_.group ? p_.K : terms);  // from a strip of a to the next
    const uint16_t* a = a_;
    if (cut_.group) a += (block_.row - held_) / strip * step + term * strip * cut_.parts;
    const int64_t calls = strips_of(block_.columns) * strips * squares;
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
        next_b = {b.data + b.step, 1, squares * square * cut_.parts, 0, strips * squares};
      for (int64_t i = 0; i < strips; ++i)
        multiply_strip<Number>(a + i * step, b.data, squares,
                               product_ + i * strip * cut_.columns + j, cut_.columns, term > 0,
                               meanwhile);
    }
  }

  /// What pack_a reads next of a block.
  Ahead next_of_a(int64_t term, int64_t calls) const {
    return ahead(lines_a_, block_.row, block_.rows, term, std::min(cut_.terms, p_.K - term), calls);
  }

  /// What part_of_b packs next.
  Ahead next_of_b(int64_t term, int64_t calls) const {
    const int64_t column = term < p_.K ? block_.column : block_.column + cut_.columns;
    if (term >= p_.K) term = 0;
    return ahead(lines_b_, column, std::min(cut_.columns, p_.N - column), term,
                 std::min(cut_.terms, p_.K - term), calls);
  }

  const Product& p_;
  const Cut& cut_;
  Lines<Number> lines_a_, lines_b_;
  const uint16_t* packed_b_;
  float *product_, *other_;
  uint16_t *a_, *b_;
  Block block_;
  int64_t held_ = 0, held_last_ = 0;  // rows of a that are packed
  Delivery delivery_;
};

template <class Number>
void multiply(const Product& p, void* workspace) {
  const Cut cut(p);
  char* const memory = static_cast<char*>(workspace);
  const uint16_t* b =
      packed_b<Number>(p, cut, memory + omp_get_max_threads() * cut.thread_bytes(p.K));
  const int64_t blocks = cut.row_blocks * cut.column_blocks;
#pragma omp parallel
  {
    const int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
    Worker<Number> worker(p, cut, b, memory + thread * cut.thread_bytes(p.K));
    [[maybe_unused]] const Tiles tiles;
    worker.run(blocks * thread / threads, blocks * (thread + 1) / threads);
  }
}

}  // namespace

void allow_f32_on_tiles(bool allowed) {
  if (allowed && !have_tiles())
    throw Failure(
        "[matmul] expected a CPU with matrix tiles (AMX), and a build that is tuned to it, for "
        "products of f32 on tiles, got none; try native products");
  f32_on_tiles = allowed;
}

bool takes_tiles(const Product& p) {
  const DType numbers = p.args.a.dtype;
  const bool dtypes = p.plain(DType::bf16, DType::bf16) || p.plain(DType::bf16, DType::f32) ||
                      (p.plain(DType::f32, DType::f32) && f32_on_tiles);
  const In& bias = p.args.bias;
  return dtypes && p.M >= strip && p.N >= strip && p.K >= strip &&
         (!bias || (bias.dtype == numbers && bias.strides[0] == 1)) && have_tiles();
}

size_t tiles_workspace(const Product& p) {
  const Cut cut(p);
  if (cut.b == Cut::kept) kept_entry(p, cut);
  return omp_get_max_threads() * cut.thread_bytes(p.K) +
         (cut.b == Cut::shared ? cut.packed_bytes(p) : 0);
}

void multiply_tiles(const Product& p, void* workspace) {
  if (p.args.a.dtype == DType::f32) return multiply<float>(p, workspace);
  multiply<BFloat16>(p, workspace);
}

}  // namespace accrue::cpu
