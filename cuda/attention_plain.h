// Attention without tensor cores: any dtype, head size and alignment. A block of 16 × 16 threads
// takes 32 queries (or keys) and 64 columns of the result; sums are kept in f32, of f64 in f64.
#pragma once
#include <cmath>

#include "accrue/cuda/attention_dropout.h"

namespace accrue::cuda {

namespace plain {
constexpr int side = 16, threads = side * side;
constexpr int rows = 2 * side, columns = 4 * side;  // of a tile

/// The shared memory of a block. One column to spare keeps columns in different banks.
template <class Wide>
struct Shared {
  Wide left[rows][columns + 1], right[rows][columns + 1], weights[rows][rows + 1];
};

ACCRUE_HD constexpr int chunks_of(int width) { return divide_up(width, columns); }
}  // namespace plain

/// Steps that the three kernels share. Thread (y, x) keeps rows 2y, 2y+1 and columns x, x+16, ….
template <class T, class Wide, class Lanes>
class PlainBlock {
 public:
  ACCRUE_DEVICE PlainBlock(const Lanes& lanes, const AttentionSizes& sizes,
                           plain::Shared<Wide>& shared)
      : lanes_(lanes),
        sizes_(sizes),
        shared_(shared),
        x_(lanes.thread() % plain::side),
        y_(lanes.thread() / plain::side) {
    const int chunks = plain::chunks_of(sizes.width);
    const int blocks = divide_up(sizes.length, plain::rows);
    task_ = task_of(lanes.block() / chunks, blocks, sizes.heads, plain::rows, false);
    column_ = static_cast<int>(lanes.block() % chunks) * plain::columns;
  }

  /// The position of row tile 0 or 1 of this thread, in the block that begins at `first`.
  ACCRUE_DEVICE int row(int first, int m) const { return first + 2 * y_ + m; }
  ACCRUE_DEVICE int column(int first, int n) const { return first + x_ + n * plain::side; }

  /// products[m][n] = Σ_d left[row m][d]·right[column n][d].
  ACCRUE_DEVICE void multiply_rows(Wide (&products)[2][2], const Heads<const T>& left,
                                   int first_left, const Heads<const T>& right, int first_right) {
    ACCRUE_UNROLL
    for (int i = 0; i < 4; ++i) products[i / 2][i % 2] = 0;
    for (int from = 0; from < sizes_.width; from += plain::columns) {
      load(shared_.left, left, first_left, from);
      load(shared_.right, right, first_right, from);
      lanes_.sync();
      for (int d = 0; d < plain::columns; ++d) ACCRUE_UNROLL
      ACCRUE_UNROLL
      for (int i = 0; i < 4; ++i)
        products[i / 2][i % 2] +=
            shared_.left[row(0, i / 2)][d] * shared_.right[column(0, i % 2)][d];
      lanes_.sync();
    }
  }

  /// sums[m][n] += Σ_i weights[row m][i]·right[first + i][column_ + column n].
  ACCRUE_DEVICE void multiply_weights(Wide (&sums)[2][4], const Wide (&weights)[2][2],
                                      const Heads<const T>& right, int first) {
    ACCRUE_UNROLL
    for (int i = 0; i < 4; ++i)
      shared_.weights[row(0, i / 2)][column(0, i % 2)] = weights[i / 2][i % 2];
    load(shared_.right, right, first, column_);
    lanes_.sync();
    for (int i = 0; i < plain::rows; ++i) ACCRUE_UNROLL
    for (int j = 0; j < 8; ++j)
      sums[j / 4][j % 4] += shared_.weights[row(0, j / 4)][i] * shared_.right[i][column(0, j % 4)];
    lanes_.sync();
  }

  ACCRUE_DEVICE void put(const Heads<T>& to, const Wide (&sums)[2][4], const Wide (&factor)[2],
                         bool add) const {
    ACCRUE_UNROLL
    for (int m = 0; m < 2; ++m) ACCRUE_UNROLL
    for (int n = 0; n < 4; ++n) {
      const int position = row(task_.first, m), at = column(column_, n);
      if (position >= sizes_.length || at >= sizes_.width) continue;
      T& place = to.at(task_.sample, task_.head)[position * to.position + at];
      Wide value = sums[m][n] * factor[m];
      if (add) value += lanes_.template widen<Wide>(place);
      place = lanes_.template narrow<T>(value);
    }
  }

  const Task& task() const { return task_; }

 protected:
  /// Rows of a head from `first` on, columns from `from` on; zeros where there are none.
  ACCRUE_DEVICE void load(Wide (&tile)[plain::rows][plain::columns + 1], const Heads<const T>& from,
                          int first, int first_column) {
    const T* head = from.at(task_.sample, task_.head);
    for (int i = lanes_.thread(); i < plain::rows * plain::columns; i += plain::threads) {
      const int at = i / plain::columns, column = i % plain::columns;
      const bool valid = first + at < sizes_.length && first_column + column < sizes_.width;
      tile[at][column] = valid ? lanes_.template widen<Wide>(
                                     head[(first + at) * from.position + first_column + column])
                               : Wide(0);
    }
  }

  ACCRUE_DEVICE Wide across_row(Wide value, bool largest) const {
    for (int bits = 1; bits < plain::side; bits *= 2) {
      const Wide other = lanes_.shuffle_xor(value, bits);
      value = largest ? (other > value ? other : value) : value + other;
    }
    return value;
  }

  const Lanes& lanes_;
  const AttentionSizes& sizes_;
  plain::Shared<Wide>& shared_;
  int x_, y_, column_;  // column_: the block's first column of the result
  Task task_;
};

template <class T, class Wide, class Lanes>
struct PlainForward : PlainBlock<T, Wide, Lanes> {
  using PlainBlock<T, Wide, Lanes>::PlainBlock;

  ACCRUE_DEVICE void run(const ForwardArgs<T, Wide>& args) {
    const Task& task = this->task_;
    const DropoutHead drops(args.dropout, args.sizes, task.sample, task.head);
    const bool dropout = args.dropout.threshold > 0;
    Wide output[2][4] = {}, largest[2] = {-INFINITY, -INFINITY}, sum[2] = {};
    for (int key = 0; key < task.first + plain::rows && key < args.sizes.length;
         key += plain::rows) {
      Wide weights[2][2];
      this->multiply_rows(weights, args.q, task.first, args.k, key);
      ACCRUE_UNROLL
      for (int m = 0; m < 2; ++m) {
        const int query = this->row(task.first, m);
        Wide block = largest[m];
        ACCRUE_UNROLL
        for (int n = 0; n < 2; ++n) {
          weights[m][n] *= static_cast<Wide>(args.sizes.scale);
          if (this->column(key, n) > query) weights[m][n] = -INFINITY;
          if (weights[m][n] > block) block = weights[m][n];
        }
        block = this->across_row(block, true);
        const Wide shrink = this->lanes_.exp(largest[m] - block);
        largest[m] = block;
        Wide part = 0;
        ACCRUE_UNROLL
        for (int n = 0; n < 2; ++n) {
          weights[m][n] = this->lanes_.exp(weights[m][n] - block);
          part += weights[m][n];
          if (dropout && drops.draw(query, this->column(key, n)) >> 8 < args.dropout.threshold)
            weights[m][n] = 0;
        }
        sum[m] = sum[m] * shrink + this->across_row(part, false);
        ACCRUE_UNROLL
        for (int n = 0; n < 4; ++n) output[m][n] *= shrink;
      }
      this->multiply_weights(output, weights, args.v, key);
    }
    ACCRUE_UNROLL
    for (int m = 0; m < 2; ++m) {
      const int query = this->row(task.first, m);
      if (this->column_ == 0 && this->x_ == 0 && query < args.sizes.length)
        args.logsum.at(task.sample, task.head)[query * args.logsum.position] =
            largest[m] + this->lanes_.log(sum[m]);
      sum[m] = static_cast<Wide>(args.dropout.factor) / sum[m];
    }
    this->put(args.y, output, sum, false);
  }
};

/// dq, a block of queries at a time; or dk and dv, a block of keys at a time.
template <class T, class Wide, class Lanes>
struct PlainBackward : PlainBlock<T, Wide, Lanes> {
  using PlainBlock<T, Wide, Lanes>::PlainBlock;

  /// What a pair of query and key contributes: the weight as dropout left it, and dS.
  ACCRUE_DEVICE void weigh(const BackwardArgs<T, Wide>& args, const DropoutHead& drops, int query,
                           int key, Wide& weight, Wide& dweight) const {
    const Task& task = this->task_;
    if (key > query || query >= args.sizes.length) {
      weight = dweight = 0;
      return;
    }
    const Wide logsum = args.logsum.at(task.sample, task.head)[query * args.logsum.position];
    const Wide dot =
        args.dots[(int64_t{task.sample} * args.sizes.heads + task.head) * args.sizes.length +
                  query];
    Wide factor = static_cast<Wide>(args.dropout.factor);
    if (args.dropout.threshold > 0 && drops.draw(query, key) >> 8 < args.dropout.threshold)
      factor = 0;
    const Wide softmax = this->lanes_.exp(weight * static_cast<Wide>(args.sizes.scale) - logsum);
    weight = softmax * factor;
    dweight = softmax * (dweight * factor - dot) * static_cast<Wide>(args.sizes.scale);
  }

  ACCRUE_DEVICE void run_queries(const BackwardArgs<T, Wide>& args) {
    const Task& task = this->task_;
    const DropoutHead drops(args.dropout, args.sizes, task.sample, task.head);
    Wide dq[2][4] = {};
    for (int key = 0; key < task.first + plain::rows && key < args.sizes.length;
         key += plain::rows) {
      Wide weights[2][2], dweights[2][2];
      this->multiply_rows(weights, args.q, task.first, args.k, key);
      this->multiply_rows(dweights, args.dy, task.first, args.v, key);
      ACCRUE_UNROLL
      for (int i = 0; i < 4; ++i)
        weigh(args, drops, this->row(task.first, i / 2), this->column(key, i % 2),
              weights[i / 2][i % 2], dweights[i / 2][i % 2]);
      this->multiply_weights(dq, dweights, args.k, key);
    }
    this->put(args.dq, dq, {1, 1}, args.add);
  }

  ACCRUE_DEVICE void run_keys(const BackwardArgs<T, Wide>& args) {
    const Task& task = this->task_;
    const DropoutHead drops(args.dropout, args.sizes, task.sample, task.head);
    Wide dk[2][4] = {}, dv[2][4] = {};
    for (int query = task.first; query < args.sizes.length; query += plain::rows) {
      Wide weights[2][2], dweights[2][2];
      this->multiply_rows(weights, args.k, task.first, args.q, query);
      this->multiply_rows(dweights, args.v, task.first, args.dy, query);
      ACCRUE_UNROLL
      for (int i = 0; i < 4; ++i)
        weigh(args, drops, this->column(query, i % 2), this->row(task.first, i / 2),
              weights[i / 2][i % 2], dweights[i / 2][i % 2]);
      this->multiply_weights(dv, weights, args.dy, query);
      this->multiply_weights(dk, dweights, args.q, query);
    }
    this->put(args.dk, dk, {1, 1}, args.add);
    this->put(args.dv, dv, {1, 1}, args.add);
  }
};

/// dots[b, h, t] = Σ_d dy·y: one warp per row.
template <class T, class Wide, class Lanes>
ACCRUE_DEVICE void dot_rows(const Lanes& lanes, const BackwardArgs<T, Wide>& args) {
  const AttentionSizes& sizes = args.sizes;
  const int64_t row = lanes.block() * (plain::threads / warp_size) + lanes.thread() / warp_size;
  const int64_t head = row / sizes.length;
  if (head >= int64_t{sizes.samples} * sizes.heads) return;
  const int t = static_cast<int>(row % sizes.length), h = static_cast<int>(head % sizes.heads);
  const int b = static_cast<int>(head / sizes.heads), lane = lanes.thread() % warp_size;
  const T *y = args.y.at(b, h) + t * args.y.position, *dy = args.dy.at(b, h) + t * args.dy.position;
  Wide sum = 0;
  for (int d = lane; d < sizes.width; d += warp_size)
    sum += lanes.template widen<Wide>(dy[d]) * lanes.template widen<Wide>(y[d]);
  for (int bits = 1; bits < warp_size; bits *= 2) sum += lanes.shuffle_xor(sum, bits);
  if (lane == 0) args.dots[row] = sum;
}

}  // namespace accrue::cuda
