// Forward attention on tensor cores: a block of queries against blocks of keys, with a running
// maximum and sum. Source: Dao, arXiv 2307.08691.
#pragma once
#include <cmath>

#include "accrue/cuda/attention_dropout.h"
#include "accrue/cuda/attention_tile.h"

namespace accrue::cuda {

/// How a forward block is cut. `width_`: D rounded up; keys_: of a step.
template <class T, int width_, bool dropout_>
struct ForwardCut {
  using Number = T;
  static constexpr int width = width_, tiles = width_ == 64 ? 2 : 1;
  static constexpr int keys = width_ == 64 ? 32 : 64;  // of a step: what the registers hold
  static constexpr int queries = block_warps * tiles * 16;
  static constexpr bool dropout = dropout_, queries_in_registers = width_ == 64;
  static constexpr int tile = keys * width;  // numbers of one of keys or values
  static constexpr size_t shared = (queries * width + 4 * tile) * sizeof(T);
};

template <class Cut, class Lanes>
class ForwardBlock {
  using T = typename Cut::Number;
  static constexpr int width = Cut::width, tiles = Cut::tiles, keys = Cut::keys;

 public:
  ACCRUE_DEVICE ForwardBlock(const Lanes& lanes, const ForwardArgs<T, float>& args, void* shared)
      : lanes_(lanes),
        args_(args),
        task_(task_of(lanes.block(), divide_up(args.sizes.length, Cut::queries), args.sizes.heads,
                      Cut::queries, true)),
        lane_(lanes.thread() % warp_size),
        row_(lanes.thread() / warp_size * tiles * 16),
        queries_(static_cast<T*>(shared)),
        pairs_(queries_ + Cut::queries * width) {}

  ACCRUE_DEVICE void run() {
    const int end = task_.first + Cut::queries;  // of the keys that are seen
    const int steps = divide_up(end < args_.sizes.length ? end : args_.sizes.length, keys);
    const DropoutHead drops(args_.dropout, args_.sizes, task_.sample, task_.head);
    copy_tile<width, Cut::queries>(lanes_, queries_, args_.q.at(task_.sample, task_.head),
                                   args_.q.position, task_.first, args_.sizes);
    copy_pair(0);
    clear<tiles, width>(output_);
    ACCRUE_UNROLL
    for (int i = 0; i < 2 * tiles; ++i) largest_[i / 2][i % 2] = -INFINITY, sum_[i / 2][i % 2] = 0;
    for (int step = 0; step < steps; ++step) {
      lanes_.wait_for_copies();
      lanes_.sync();  // and nobody reads the other pair any more
      if (step == 0) keep_queries();
      if (step + 1 < steps) copy_pair(step + 1);
      if (step * keys < task_.first + row_ + tiles * 16) attend(step, drops);
    }
    finish();
  }

 private:
  ACCRUE_DEVICE void copy_pair(int step) {
    T* to = pairs_ + step % 2 * 2 * Cut::tile;
    copy_tile<width, keys>(lanes_, to, args_.k.at(task_.sample, task_.head), args_.k.position,
                           step * keys, args_.sizes);
    copy_tile<width, keys>(lanes_, to + Cut::tile, args_.v.at(task_.sample, task_.head),
                           args_.v.position, step * keys, args_.sizes);
  }

  ACCRUE_DEVICE void keep_queries() {
    if constexpr (Cut::queries_in_registers) ACCRUE_UNROLL
    for (int m = 0; m < tiles; ++m) ACCRUE_UNROLL
    for (int term = 0; term < width; term += 16)
      load_left<width>(lanes_, kept_[m][term / 16], queries_, row_ + m * 16, term);
  }

  ACCRUE_DEVICE void attend(int step, const DropoutHead& drops) {
    const T* pair = pairs_ + step % 2 * 2 * Cut::tile;
    Sums<tiles, keys> scores;
    clear<tiles, keys>(scores);
    multiply_by_rows<width, tiles, keys>(
        lanes_, scores,
        [&](uint32_t(&words)[4], int m, int term) {
          if constexpr (Cut::queries_in_registers) {
            ACCRUE_UNROLL
            for (int i = 0; i < 4; ++i) words[i] = kept_[m][term / 16][i];
          } else {
            load_left<width>(lanes_, words, queries_, row_ + m * 16, term);
          }
        },
        pair);
    if ((step + 1) * keys - 1 > task_.first + row_) mask(scores, step * keys);
    soften(scores);
    if constexpr (Cut::dropout) drop(scores, step * keys, drops);
    multiply_sums<width, tiles, keys>(lanes_, output_, scores, pair + Cut::tile);
  }

  /// Position of the lane's numbers 0 and 1 (half 0), 2 and 3 (half 1) of row tile m.
  ACCRUE_DEVICE int query(int m, int half) const {
    return task_.first + row_ + m * 16 + sum_place(lane_, half * 2).row;
  }

  ACCRUE_DEVICE void mask(Sums<tiles, keys>& scores, int first_key) const {
    ACCRUE_UNROLL
    for (int m = 0; m < tiles; ++m) ACCRUE_UNROLL
    for (int n = 0; n < keys / 8; ++n) ACCRUE_UNROLL
    for (int i = 0; i < 4; ++i)
      if (first_key + n * 8 + sum_place(lane_, i).column > query(m, i / 2))
        scores[m][n][i] = -INFINITY;
  }

  /// Scores become exp(score − maximum); maximum and sum run on; what was summed is rescaled.
  ACCRUE_DEVICE void soften(Sums<tiles, keys>& scores) {
    const float scale = static_cast<float>(args_.sizes.scale) * log2_e;
    ACCRUE_UNROLL
    for (int m = 0; m < tiles; ++m) ACCRUE_UNROLL
    for (int half = 0; half < 2; ++half) {
      float largest = largest_[m][half];
      ACCRUE_UNROLL
      for (int n = 0; n < keys / 8; ++n)
        largest = fmaxf(largest, fmaxf(scores[m][n][half * 2], scores[m][n][half * 2 + 1]));
      largest = fmaxf(largest, lanes_.shuffle_xor(largest, 1));
      largest = fmaxf(largest, lanes_.shuffle_xor(largest, 2));
      const float shrink = lanes_.exp2((largest_[m][half] - largest) * scale);
      float sum = sum_[m][half] * shrink;  // of this lane's columns
      ACCRUE_UNROLL
      for (int n = 0; n < keys / 8; ++n) ACCRUE_UNROLL
      for (int i = half * 2; i < half * 2 + 2; ++i) {
        scores[m][n][i] = lanes_.exp2(scores[m][n][i] * scale - largest * scale);
        sum += scores[m][n][i];
      }
      ACCRUE_UNROLL
      for (int n = 0; n < width / 8; ++n) {
        output_[m][n][half * 2] *= shrink;
        output_[m][n][half * 2 + 1] *= shrink;
      }
      largest_[m][half] = largest;
      sum_[m][half] = sum;
    }
  }

  ACCRUE_DEVICE void drop(Sums<tiles, keys>& scores, int first_key, const DropoutHead& drops) {
    ACCRUE_UNROLL
    for (int m = 0; m < tiles; ++m) ACCRUE_UNROLL
    for (int n = 0; n < keys / 8; ++n) {
      uint32_t draws[4];
      const int key = first_key + n * 8 + sum_place(lane_, 0).column;
      draw_queries(lanes_, drops, query(m, 0), key, draws);
      ACCRUE_UNROLL
      for (int i = 0; i < 4; ++i)
        if (draws[i] >> 8 < args_.dropout.threshold) scores[m][n][i] = 0;
    }
  }

  ACCRUE_DEVICE void finish() {
    ACCRUE_UNROLL
    for (int m = 0; m < tiles; ++m) ACCRUE_UNROLL
    for (int half = 0; half < 2; ++half) {
      float& sum = sum_[m][half];
      sum += lanes_.shuffle_xor(sum, 1);
      sum += lanes_.shuffle_xor(sum, 2);
      if (lane_ % 4 == 0 && query(m, half) < args_.sizes.length)
        args_.logsum.at(task_.sample, task_.head)[query(m, half) * args_.logsum.position] =
            largest_[m][half] * static_cast<float>(args_.sizes.scale) + lanes_.log(sum);
    }
    const float factor = Cut::dropout ? static_cast<float>(args_.dropout.factor) : 1.0f;
    put_rows<width, tiles>(
        lanes_, output_, [&](int m, int half) { return factor / sum_[m][half]; },
        args_.y.at(task_.sample, task_.head), args_.y.position, task_.first + row_, false,
        args_.sizes);
  }

  const Lanes& lanes_;
  const ForwardArgs<T, float>& args_;
  Task task_;
  int lane_, row_;       // the warp's first row in the block
  T *queries_, *pairs_;  // shared: queries; two pairs of keys and values
  Sums<tiles, width> output_;
  uint32_t kept_[tiles][width / 16][4];
  float largest_[tiles][2], sum_[tiles][2];
};

}  // namespace accrue::cuda
