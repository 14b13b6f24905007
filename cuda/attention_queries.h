// Backward attention on tensor cores, first pass: dq, a block of queries at a time. The second is
// in attention_keys.h; neither needs atomics. Both find the softmax again from the log-sums.
// Source: Dao, arXiv 2307.08691.
//   P = exp(q·k/√D − logsum); dP = m·(dy·v), m dropout's factor; dS = P·(dP − Σ_d dy·y);
//   dq = Σ_s dS·k/√D; dk = Σ_t dS·q/√D; dv = Σ_t m·P·dy.
#pragma once
#include "accrue/cuda/attention_dropout.h"
#include "accrue/cuda/attention_tile.h"

namespace accrue::cuda {

/// How a block of queries is cut: dq.
template <class T, int width_, bool dropout_>
struct QueryCut {
  using Number = T;
  static constexpr int width = width_, tiles = width_ == 64 ? 2 : 1, keys = 32;
  static constexpr int queries = block_warps * tiles * 16;
  static constexpr bool dropout = dropout_;
  static constexpr int tile = keys * width;
  static constexpr size_t shared = (2 * queries * width + 4 * tile) * sizeof(T);
};

template <class Cut, class Lanes>
class QueryBlock {
  using T = typename Cut::Number;
  static constexpr int width = Cut::width, tiles = Cut::tiles, keys = Cut::keys;

 public:
  ACCRUE_DEVICE QueryBlock(const Lanes& lanes, const BackwardArgs<T, float>& args, void* shared)
      : lanes_(lanes),
        args_(args),
        task_(task_of(lanes.block(), divide_up(args.sizes.length, Cut::queries), args.sizes.heads,
                      Cut::queries, true)),
        lane_(lanes.thread() % warp_size),
        row_(lanes.thread() / warp_size * tiles * 16),
        queries_(static_cast<T*>(shared)),
        dy_(queries_ + Cut::queries * width),
        pairs_(dy_ + Cut::queries * width) {}

  ACCRUE_DEVICE void run() {
    const int end = task_.first + Cut::queries;  // of the keys that are seen
    const int steps = divide_up(end < args_.sizes.length ? end : args_.sizes.length, keys);
    const DropoutHead drops(args_.dropout, args_.sizes, task_.sample, task_.head);
    copy_tile<width, Cut::queries>(lanes_, queries_, args_.q.at(task_.sample, task_.head),
                                   args_.q.position, task_.first, args_.sizes);
    copy_tile<width, Cut::queries>(lanes_, dy_, args_.dy.at(task_.sample, task_.head),
                                   args_.dy.position, task_.first, args_.sizes);
    copy_pair(0);
    load_rows();
    clear<tiles, width>(dq_);
    for (int step = 0; step < steps; ++step) {
      lanes_.wait_for_copies();
      lanes_.sync();  // and nobody reads the other pair any more
      if (step + 1 < steps) copy_pair(step + 1);
      if (step * keys < task_.first + row_ + tiles * 16) attend(step, drops);
    }
    const float scale = static_cast<float>(args_.sizes.scale);
    put_rows<width, tiles>(
        lanes_, dq_, [=](int, int) { return scale; }, args_.dq.at(task_.sample, task_.head),
        args_.dq.position, task_.first + row_, args_.add, args_.sizes);
  }

 private:
  ACCRUE_DEVICE void copy_pair(int step) {
    T* to = pairs_ + step % 2 * 2 * Cut::tile;
    copy_tile<width, keys>(lanes_, to, args_.k.at(task_.sample, task_.head), args_.k.position,
                           step * keys, args_.sizes);
    copy_tile<width, keys>(lanes_, to + Cut::tile, args_.v.at(task_.sample, task_.head),
                           args_.v.position, step * keys, args_.sizes);
  }

  ACCRUE_DEVICE int query(int m, int half) const {
    return task_.first + row_ + m * 16 + sum_place(lane_, half * 2).row;
  }

  /// Rows beyond the last read as zero: their queries and dy are zero, and they are never written.
  ACCRUE_DEVICE void load_rows() {
    const float* logsum = args_.logsum.at(task_.sample, task_.head);
    const float* dots =
        args_.dots + (int64_t{task_.sample} * args_.sizes.heads + task_.head) * args_.sizes.length;
    ACCRUE_UNROLL
    for (int i = 0; i < 2 * tiles; ++i) {
      const int at = query(i / 2, i % 2);
      const bool valid = at < args_.sizes.length;
      logsum_[i / 2][i % 2] = valid ? logsum[at * args_.logsum.position] * log2_e : 0;
      dots_[i / 2][i % 2] = valid ? dots[at] : 0;
    }
  }

  ACCRUE_DEVICE void attend(int step, const DropoutHead& drops) {
    const T *key_tile = pairs_ + step % 2 * 2 * Cut::tile, *value_tile = key_tile + Cut::tile;
    const int first_key = step * keys;
    const float scale = static_cast<float>(args_.sizes.scale) * log2_e;
    Sums<tiles, keys> weights, dweights;
    const auto rows_of = [&](const T* tile) {
      return [this, tile](uint32_t(&words)[4], int m, int term) {
        load_left<width>(lanes_, words, tile, row_ + m * 16, term);
      };
    };
    clear<tiles, keys>(weights);
    multiply_by_rows<width, tiles, keys>(lanes_, weights, rows_of(queries_), key_tile);
    clear<tiles, keys>(dweights);
    multiply_by_rows<width, tiles, keys>(lanes_, dweights, rows_of(dy_), value_tile);

    const bool diagonal = first_key + keys - 1 > task_.first + row_;
    const float factor = Cut::dropout ? static_cast<float>(args_.dropout.factor) : 1.0f;
    ACCRUE_UNROLL
    for (int m = 0; m < tiles; ++m) ACCRUE_UNROLL
    for (int n = 0; n < keys / 8; ++n) {
      const int key = first_key + n * 8 + sum_place(lane_, 0).column;
      uint32_t draws[4];
      if constexpr (Cut::dropout) draw_queries(lanes_, drops, query(m, 0), key, draws);
      ACCRUE_UNROLL
      for (int i = 0; i < 4; ++i) {
        const bool later = diagonal && key + i % 2 > query(m, i / 2);
        const float weight = later ? 0 : lanes_.exp2(weights[m][n][i] * scale - logsum_[m][i / 2]);
        float dweight = dweights[m][n][i];
        if constexpr (Cut::dropout)
          dweight = draws[i] >> 8 < args_.dropout.threshold ? 0 : dweight * factor;
        dweights[m][n][i] = weight * (dweight - dots_[m][i / 2]);
      }
    }
    multiply_sums<width, tiles, keys>(lanes_, dq_, dweights, key_tile);
  }

  const Lanes& lanes_;
  const BackwardArgs<T, float>& args_;
  Task task_;
  int lane_, row_;             // the warp's first row in the block
  T *queries_, *dy_, *pairs_;  // shared: queries; dy; two pairs of keys and values
  Sums<tiles, width> dq_;
  float logsum_[tiles][2], dots_[tiles][2];  // of the lane's rows; log-sums in powers of two
};

}  // namespace accrue::cuda
