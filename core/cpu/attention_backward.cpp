// Backward attention: probabilities come again from logsum; a head's dk and dv grow in scratch.
//
// With p = exp(q·k/√D − logsum) and dp = dy·v: dv = Σ_t p·dy, dk = Σ_t ds·q/√D, dq = Σ_s ds·k/√D,
// where ds = p·(dp − Σ_d dy·y). Dropout multiplies p (in dv) and dp by the same factors.
#include "accrue/core/cpu/attention_tile.h"
#include "accrue/core/cpu/dispatch.h"
#include "accrue/core/cpu/kernels.h"

namespace accrue::cpu {
namespace {

/// One thread's scratch. Sizes in floats.
struct Scratch {
  float *keys, *values;                  // [T, padded D]
  float *dkeys, *dvalues;                // [T, padded D]
  float *query_rows, *dy_rows, *y_rows;  // [queries, padded D]
  float *query_panel, *dy_panel, *dqueries;
  float *scores, *dscores, *keep;  // [key_block, queries]
  float *logsum, *delta;           // [queries]; logsum in powers of two

  static int64_t size(const kernel::AttentionBackward& a) {
    const int64_t width = round_up(a.q.shape[3], lanes);
    return 4 * a.q.shape[1] * width + (6 * width + 3 * key_block + 2) * queries;
  }
  Scratch(const kernel::AttentionBackward& a, float* at) {
    const int64_t width = round_up(a.q.shape[3], lanes);
    const auto take = [&at](int64_t count) { return std::exchange(at, at + count); };
    for (float** head : {&keys, &values, &dkeys, &dvalues}) *head = take(a.q.shape[1] * width);
    for (float** block : {&query_rows, &dy_rows, &y_rows, &query_panel, &dy_panel, &dqueries})
      *block = take(queries * width);
    for (float** block : {&scores, &dscores, &keep}) *block = take(key_block * queries);
    logsum = take(queries), delta = take(queries);
  }
};

/// logsum in powers of two, and delta = Σ_d dy·y. Lanes without a query get a logsum that makes
/// their probabilities 0.
void load_statistics(const kernel::AttentionBackward& a, int64_t b, int64_t h, int64_t first,
                     int64_t count, const float* y, const float* dy, int64_t width, Scratch& s) {
  const float* logsum = static_cast<const float*>(a.logsum.data) + b * a.logsum.strides[0] +
                        h * a.logsum.strides[1] + first;
  for (int64_t row = 0; row < queries; ++row)
    s.logsum[row] = row < count ? logsum[row] * log2_e : 1e30f;
  for (int64_t from = 0; from < queries; from += lanes) {
    Floats products[lanes]{};
    for (int64_t row = from; row < std::min<int64_t>(count, from + lanes); ++row)
      for (int64_t i = row * width; i < (row + 1) * width; i += lanes)
        products[row - from] += load(y + i) * load(dy + i);
    transpose(products);  // so that the sums over lanes are sums of registers
    Floats delta{};
    for (const Floats& product : products) delta += product;
    store(s.delta + from, delta);
  }
}

/// scores become p (times the kept factor), dscores become ds.
void differentiate_softmax(Reach reach, bool drops, Scratch& s) {
  for (int c = 0; c < 2; ++c) {
    const Floats logsum = load(s.logsum + c * lanes), delta = load(s.delta + c * lanes);
    for (int64_t key = 0; key < reach.end(c) - reach.from; ++key) {
      const int64_t at = key * queries + c * lanes;
      const Floats p = exp2_nonpositive(load(s.scores + at) - logsum);
      const Floats keep = drops ? load(s.keep + at) : Floats{} + 1.0f;
      store(s.scores + at, p * keep);
      store(s.dscores + at, p * (load(s.dscores + at) * keep - delta));
    }
  }
  mask_later_keys(reach, 0, s.scores);
  mask_later_keys(reach, 0, s.dscores);
}

/// dkeys, dvalues and dqueries += what this block of keys and queries gives.
void multiply_gradients(Reach reach, int64_t count, int64_t width, const float* q, const float* k,
                        const float* dy, Scratch& s) {
  for (int64_t key = reach.from; key < reach.to; key += tile_rows) {
    const int64_t first =
        std::max<int64_t>(0, key - reach.query);  // queries before see no such key
    const int64_t at = (key - reach.from) * queries + first;
    const int64_t rows = std::min<int64_t>(tile_rows, reach.to - key);
    multiply(rows, width, count - first, s.scores + at, queries, 1, dy + first * width, width,
             s.dvalues + key * width, width, true);
    multiply(rows, width, count - first, s.dscores + at, queries, 1, q + first * width, width,
             s.dkeys + key * width, width, true);
  }
  for (int64_t row = 0; row < count; row += tile_rows) {
    const int64_t rows = std::min<int64_t>(tile_rows, count - row);
    const int64_t keys = std::min(reach.to, reach.query + row + rows) - reach.from;
    multiply(rows, width, keys, s.dscores + row, 1, queries, k + reach.from * width, width,
             s.dqueries + row * width, width, reach.from > 0);
  }
}

template <class T>
void differentiate_head(const kernel::AttentionBackward& a, int64_t b, int64_t h, Scratch& s) {
  const int64_t length = a.q.shape[1], width = round_up(a.q.shape[3], lanes);
  const float scale = 1 / std::sqrt(static_cast<float>(a.q.shape[3]));
  const float* k = copy_rows<T>(a.k, b, h, 0, length, s.keys);
  const float* v = copy_rows<T>(a.v, b, h, 0, length, s.values);
  std::fill(s.dkeys, s.dkeys + length * width, 0.0f);
  std::fill(s.dvalues, s.dvalues + length * width, 0.0f);
  for (int64_t first = 0; first < length; first += queries) {
    const int64_t count = std::min<int64_t>(queries, length - first);
    const float* q = copy_rows<T>(a.q, b, h, first, count, s.query_rows);
    const float* dy = copy_rows<T>(a.dy, b, h, first, count, s.dy_rows);
    const float* y = copy_rows<T>(a.y, b, h, first, count, s.y_rows);
    transpose_rows(q, count, width, scale * log2_e, s.query_panel);
    transpose_rows(dy, count, width, 1, s.dy_panel);
    load_statistics(a, b, h, first, count, y, dy, width, s);
    for (int64_t from = 0; from < first + count; from += key_block) {
      const Reach reach{first, from, std::min(first + count, from + key_block)};
      multiply_panel(reach, k, width, s.query_panel, s.scores);
      multiply_panel(reach, v, width, s.dy_panel, s.dscores);
      if (a.p > 0) keep_factors(a, b, h, reach, s.keep);
      differentiate_softmax(reach, a.p > 0, s);
      multiply_gradients(reach, count, width, q, k, dy, s);
    }
    deposit_rows<T>(s.dqueries, count, scale, a.dq, b, h, first, a.write);
  }
  deposit_rows<T>(s.dkeys, length, scale, a.dk, b, h, 0, a.write);
  deposit_rows<T>(s.dvalues, length, 1, a.dv, b, h, 0, a.write);
}

template <class T>
void differentiate(const kernel::AttentionBackward& a, float* workspace) {
  const int64_t heads = a.q.shape[2], count = a.q.shape[0] * heads, per_thread = Scratch::size(a);
  const bool fork = count > 1 && worth_a_fork(count, a.q.shape[1], a.q.shape[3]);
#pragma omp parallel for schedule(dynamic) if (fork)
  for (int64_t task = 0; task < count; ++task) {
    Scratch s(a, workspace + omp_get_thread_num() * per_thread);
    differentiate_head<T>(a, task / heads, task % heads, s);
  }
}

}  // namespace

size_t attention_backward_workspace(const kernel::AttentionBackward& a) {
  return static_cast<size_t>(omp_get_max_threads() * Scratch::size(a)) * sizeof(float);
}

void attention_backward(const kernel::AttentionBackward& a, void* workspace) {
  with_float(a.q.dtype, [&]<class T>(T) { differentiate<T>(a, static_cast<float*>(workspace)); });
}

}  // namespace accrue::cpu
