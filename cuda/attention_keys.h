// Backward attention on tensor cores, second pass: dk and dv, a block of keys at a time. Formulae:
// attention_queries.h.
#pragma once
#include "accrue/cuda/attention_dropout.h"
#include "accrue/cuda/attention_tile.h"

namespace accrue::cuda {

/// How a block of keys is cut: dk and dv.
template <class T, int width_, bool dropout_>
struct KeyCut {
  using Number = T;
  static constexpr int width = width_, tiles = 1, queries = width_ == 64 ? 64 : 32;
  static constexpr int keys = block_warps * tiles * 16;
  static constexpr bool dropout = dropout_;
  static constexpr int tile = queries * width;
  static constexpr size_t shared =
      (2 * keys * width + 4 * tile) * sizeof(T) + 4 * queries * sizeof(float);
};

template <class Cut, class Lanes>
class KeyBlock {
  using T = typename Cut::Number;
  static constexpr int width = Cut::width, tiles = Cut::tiles, queries = Cut::queries;

 public:
  ACCRUE_DEVICE KeyBlock(const Lanes& lanes, const BackwardArgs<T, float>& args, void* shared)
      : lanes_(lanes),
        args_(args),
        task_(task_of(lanes.block(), divide_up(args.sizes.length, Cut::keys), args.sizes.heads,
                      Cut::keys, false)),
        lane_(lanes.thread() % warp_size),
        row_(lanes.thread() / warp_size * tiles * 16),
        keys_(static_cast<T*>(shared)),
        values_(keys_ + Cut::keys * width),
        pairs_(values_ + Cut::keys * width),
        rows_(reinterpret_cast<float*>(pairs_ + 4 * Cut::tile)) {}

  ACCRUE_DEVICE void run() {
    const DropoutHead drops(args_.dropout, args_.sizes, task_.sample, task_.head);
    copy_tile<width, Cut::keys>(lanes_, keys_, args_.k.at(task_.sample, task_.head),
                                args_.k.position, task_.first, args_.sizes);
    copy_tile<width, Cut::keys>(lanes_, values_, args_.v.at(task_.sample, task_.head),
                                args_.v.position, task_.first, args_.sizes);
    const int from = task_.first / queries, to = divide_up(args_.sizes.length, queries);
    copy_pair(from);
    clear<tiles, width>(dk_);
    clear<tiles, width>(dv_);
    for (int step = from; step < to; ++step) {
      lanes_.wait_for_copies();
      lanes_.sync();  // and nobody reads the other pair any more
      if (step + 1 < to) copy_pair(step + 1);
      if ((step + 1) * queries > task_.first + row_) attend(step, drops);
    }
    const float scale = static_cast<float>(args_.sizes.scale);
    const float factor = Cut::dropout ? static_cast<float>(args_.dropout.factor) : 1.0f;
    put_rows<width, tiles>(
        lanes_, dk_, [=](int, int) { return scale; }, args_.dk.at(task_.sample, task_.head),
        args_.dk.position, task_.first + row_, args_.add, args_.sizes);
    put_rows<width, tiles>(
        lanes_, dv_, [=](int, int) { return factor; }, args_.dv.at(task_.sample, task_.head),
        args_.dv.position, task_.first + row_, args_.add, args_.sizes);
  }

 private:
  /// Queries beyond the last are zero, and so are their dy, log-sum and Σ dy·y: they add nothing.
  ACCRUE_DEVICE void copy_pair(int step) {
    T* to = pairs_ + step % 2 * 2 * Cut::tile;
    const int first = step * queries;
    copy_tile<width, queries>(lanes_, to, args_.q.at(task_.sample, task_.head), args_.q.position,
                              first, args_.sizes);
    copy_tile<width, queries>(lanes_, to + Cut::tile, args_.dy.at(task_.sample, task_.head),
                              args_.dy.position, first, args_.sizes);
    float* rows = rows_ + step % 2 * 2 * queries;
    const int i = lanes_.thread(), at = first + i % queries;
    if (i >= 2 * queries) return;
    const bool valid = at < args_.sizes.length;
    const float* from;
    if (i < queries)
      from = args_.logsum.at(task_.sample, task_.head) + (valid ? at : 0) * args_.logsum.position;
    else
      from = args_.dots + (valid ? at : 0) +
             (int64_t{task_.sample} * args_.sizes.heads + task_.head) * args_.sizes.length;
    lanes_.copy_4(rows + i, from, valid);
  }

  ACCRUE_DEVICE void attend(int step, const DropoutHead& drops) {
    const T *query_tile = pairs_ + step % 2 * 2 * Cut::tile, *dy_tile = query_tile + Cut::tile;
    const float* rows = rows_ + step % 2 * 2 * queries;
    const auto rows_of = [&](const T* tile) {
      return [this, tile](uint32_t(&words)[4], int m, int term) {
        load_left<width>(lanes_, words, tile, row_ + m * 16, term);
      };
    };
    Sums<tiles, queries> weights, dweights;
    clear<tiles, queries>(weights);
    multiply_by_rows<width, tiles, queries>(lanes_, weights, rows_of(keys_), query_tile);
    clear<tiles, queries>(dweights);
    multiply_by_rows<width, tiles, queries>(lanes_, dweights, rows_of(values_), dy_tile);
    weigh(weights, dweights, step * queries, rows, drops);
    multiply_sums<width, tiles, queries>(lanes_, dv_, weights, dy_tile);
    multiply_sums<width, tiles, queries>(lanes_, dk_, dweights, query_tile);
  }

  /// Scores become what dropout left of the weights, but for its factor; dy·v becomes dS.
  ACCRUE_DEVICE void weigh(Sums<tiles, queries>& weights, Sums<tiles, queries>& dweights,
                           int first_query, const float* rows, const DropoutHead& drops) {
    const float scale = static_cast<float>(args_.sizes.scale) * log2_e;
    const bool diagonal = first_query < task_.first + row_ + tiles * 16 - 1;
    const float factor = Cut::dropout ? static_cast<float>(args_.dropout.factor) : 1.0f;
    ACCRUE_UNROLL
    for (int n = 0; n < queries / 8; ++n) ACCRUE_UNROLL
    for (int m = 0; m < tiles; ++m) {
      const int column = n * 8 + sum_place(lane_, 0).column;
      const int key = task_.first + row_ + m * 16 + sum_place(lane_, 0).row;
      uint32_t draws[4];
      if constexpr (Cut::dropout) draw_keys(lanes_, drops, key, first_query + column, draws);
      ACCRUE_UNROLL
      for (int i = 0; i < 4; ++i) {
        const bool later = diagonal && key + i / 2 * 8 > first_query + column + i % 2;
        const float logsum = rows[column + i % 2] * log2_e, dot = rows[queries + column + i % 2];
        const float weight = later ? 0 : lanes_.exp2(weights[m][n][i] * scale - logsum);
        const bool kept = !Cut::dropout || draws[i] >> 8 >= args_.dropout.threshold;
        weights[m][n][i] = kept ? weight : 0;
        dweights[m][n][i] = weight * ((kept ? dweights[m][n][i] * factor : 0) - dot);
      }
    }
  }

  const Lanes& lanes_;
  const BackwardArgs<T, float>& args_;
  Task task_;
  int lane_, row_;              // the warp's first row in the block
  T *keys_, *values_, *pairs_;  // shared: keys; values; two pairs of queries and dy
  float* rows_;                 // shared: two pairs of log-sums and Σ dy·y
  Sums<tiles, width> dk_, dv_;
};

}  // namespace accrue::cuda
