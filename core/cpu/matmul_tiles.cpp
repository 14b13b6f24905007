// Products in bf16 on matrix tiles (AMX). A library's kernel reads and writes a weight's sum tile
// by tile, in rows a page apart: each line then waits for memory. Here a block of the product is
// made in the cache and then put where it belongs as one stream.
#include <atomic>
#include <utility>
#include <vector>

#include "accrue/core/cpu/tiles_cut.h"
#include "accrue/core/cpu/tiles_delivery.h"
#include "accrue/core/cpu/tiles_strip.h"
#include "accrue/core/cpu/vector.h"

namespace accrue::cpu {
namespace {
using namespace tiles;

Lines lines_of(const In& in, int64_t ld, bool along) {
  return {static_cast<const uint16_t*>(in.data), ld, along};
}

/// `lines` by `terms` of an operand from there on, to be read ahead.
Ahead ahead(const Lines& from, int64_t line, int64_t lines, int64_t term, int64_t terms,
            int64_t calls) {
  if (lines <= 0 || terms <= 0) return {};
  return {from.from(line, term).data, from.along ? lines : terms, from.along ? terms : lines,
          from.ld, calls};
}

Packs::Entry& kept_entry(const Product& p, const Cut& cut) {
  const uint64_t layout = static_cast<uint64_t>(p.K) << 33 ^ p.N << 1 ^ p.b.transposed;
  return p.args.b.packs->entry(layout, cut.packed_bytes(p), Device::cpu());
}

/// All of b, packed; null where each thread packs its blocks.
const uint16_t* packed_b(const Product& p, const Cut& cut, void* workspace) {
  if (cut.b == Cut::own) return nullptr;
  auto* place = static_cast<uint16_t*>(workspace);
  if (cut.b == Cut::kept) {
    Packs::Entry& kept = kept_entry(p, cut);
    place = reinterpret_cast<uint16_t*>(kept.data.data<uint8_t>());
    if (std::exchange(kept.valid, true)) return place;
  }
  // Shared out in the order in which b lies in memory.
  const Lines lines = lines_of(p.args.b, p.b.ld, p.b.transposed);
  const int64_t step = cut.step(p.K);
  const int64_t total = lines.along ? p.N : p.K, other = lines.along ? p.K : p.N;
  parallel_rows(strips_of(total), strip * other, [&](int64_t first, int64_t last) {
    const int64_t from = first * strip, count = std::min(last * strip, total) - from;
    const auto pack = [&](const Lines& part, int64_t columns, int64_t terms, int64_t between) {
      pack_squares(part, columns, terms, SquareOrder::by_pair, place + first * between, step);
    };
    lines.along ? pack(lines.from(from, 0), count, p.K, step)
                : pack(lines.from(0, from), p.N, count, square);
  });
  return place;
}

/// A thread's share of the blocks: those that are left. Who makes a block changes none of its bits:
/// its terms and their order depend on the block alone.
struct alignas(64) Share {
  std::atomic<int64_t> next;
  int64_t last;
};

/// One thread's way through blocks: its own, then what others have left.
class Worker {
 public:
  Worker(const Product& p, const Cut& cut, const uint16_t* b, char* memory)
      : p_(p),
        cut_(cut),
        lines_a_(lines_of(p.args.a, p.a.ld, !p.a.transposed)),
        lines_b_(lines_of(p.args.b, p.b.ld, p.b.transposed)),
        packed_b_(b),
        product_(reinterpret_cast<float*>(memory)),
        other_(reinterpret_cast<float*>(memory + cut.product_bytes())),
        a_(reinterpret_cast<uint16_t*>(memory + 2 * cut.product_bytes())),
        b_(a_ + cut.a_bytes(p.K) / sizeof(uint16_t)) {}

  /// Block by block along the rows. While a block is made, the one before is delivered. Of
  /// another's share it may get one block only, so it packs the rows of one, not of a group.
  void run(Share& share, bool own) {
    for (int64_t block; (block = share.next++) < share.last;) make(block, own ? cut_.group : 1);
  }
  void finish() {
    while (!delivery_.done()) delivery_.step();
  }

 private:
  struct PackedB {
    const uint16_t* data;
    int64_t step;  // from 32 columns to the next
  };

  void make(int64_t block, int64_t group) {
    const int64_t row = block / cut_.column_blocks * cut_.rows;
    const int64_t column = block % cut_.column_blocks * cut_.columns;
    block_ = {row, std::min(cut_.rows, p_.M - row), column, std::min(cut_.columns, p_.N - column)};
    if (cut_.group && (block_.row < held_ || block_.row >= held_last_)) {
      held_ = block_.row;
      held_last_ = std::min(block_.row + group * cut_.rows, p_.M);
      pack_a(held_, held_last_ - held_, 0, p_.K);
    }
    for (int64_t term = 0; term < p_.K; term += cut_.terms) {
      const int64_t terms = std::min(cut_.terms, p_.K - term);
      if (!cut_.group) pack_a(block_.row, block_.rows, term, terms);
      multiply(part_of_b(term, terms), term, terms);
    }
    finish();
    delivery_ = {put_of(p_), &p_, product_, cut_.columns, block_, p_.activation ? 64 : 128, 0};
    std::swap(product_, other_);
  }

  void pack_a(int64_t row, int64_t rows, int64_t term, int64_t terms) {
    pack_squares(lines_a_.from(row, term), rows, terms, SquareOrder::by_line, a_, cut_.step(terms));
  }

  PackedB part_of_b(int64_t term, int64_t terms) {
    const int64_t step = cut_.step(packed_b_ ? p_.K : terms);
    if (packed_b_) return {packed_b_ + block_.column / strip * step + term * strip, step};
    pack_squares(lines_b_.from(block_.column, term), block_.columns, terms, SquareOrder::by_pair,
                 b_, step);
    return {b_, step};
  }

  void multiply(PackedB b, int64_t term, int64_t terms) {
    const int64_t squares = strips_of(terms), strips = strips_of(block_.rows);
    const int64_t step = cut_.step(cut_.group ? p_.K : terms);  // from a strip of a to the next
    const uint16_t* a = a_;
    if (cut_.group) a += (block_.row - held_) / strip * step + term * strip;
    const int64_t calls = strips_of(block_.columns) * strips * squares;
    const int64_t all = calls * ((p_.K - term + cut_.terms - 1) / cut_.terms);
    const int64_t pieces = (delivery_.pieces() + all - 1) / all;
    const int64_t next = term + terms, next_terms = std::min(cut_.terms, p_.K - next);
    Ahead next_a;
    if (!cut_.group) next_a = ahead(lines_a_, block_.row, block_.rows, next, next_terms, calls);
    Ahead next_b = packed_b_ ? Ahead() : next_of_b(next, calls);
    const auto meanwhile = [&] {
      next_a();
      next_b();
      for (int64_t piece = 0; piece < pieces && !delivery_.done(); ++piece) delivery_.step();
    };
    for (int64_t j = 0; j < block_.columns; j += strip, b.data += b.step) {
      // A single strip sweeps over a b that the cache holds.
      if (packed_b_ && strips > 1)
        next_b = {b.data + b.step, 1, squares * square, 0, strips * squares};
      for (int64_t i = 0; i < strips; ++i)
        multiply_strip(a + i * step, b.data, squares, product_ + i * strip * cut_.columns + j,
                       cut_.columns, term > 0, meanwhile);
    }
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
  Lines lines_a_, lines_b_;
  const uint16_t* packed_b_;
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
  if (cut.b == Cut::kept) kept_entry(p, cut);
  return omp_get_max_threads() * cut.thread_bytes(p.K) +
         (cut.b == Cut::shared ? cut.packed_bytes(p) : 0);
}

void multiply_tiles(const Product& p, void* workspace) {
  const Cut cut(p);
  char* const memory = static_cast<char*>(workspace);
  const int64_t blocks = cut.row_blocks * cut.column_blocks, threads = omp_get_max_threads();
  const uint16_t* b = packed_b(p, cut, memory + threads * cut.thread_bytes(p.K));
  std::vector<Share> shares(threads);
  for (int64_t i = 0; i < threads; ++i) {
    shares[i].next = blocks * i / threads;
    shares[i].last = blocks * (i + 1) / threads;
  }
#pragma omp parallel
  {
    const int64_t thread = omp_get_thread_num();
    Worker worker(p, cut, b, memory + thread * cut.thread_bytes(p.K));
    [[maybe_unused]] const Tiles tiles;
    // A core's tiles may be far slower than another's for a while: who is done helps.
    for (int64_t turn = 0; turn < threads; ++turn)
      worker.run(shares[(thread + turn) % threads], turn == 0);
    worker.finish();
  }
}

}  // namespace accrue::cpu
