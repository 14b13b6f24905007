// Forward attention: a block of queries against blocks of keys, with a running maximum and sum.
#include "accrue/core/cpu/kernels.h"

#include "accrue/core/cpu/attention_tile.h"
#include "accrue/core/cpu/dispatch.h"

namespace accrue::cpu {
namespace {

constexpr float masked = -3e38f;  // below every score; its exponential is exactly 0

/// One thread's scratch. Sizes in floats.
struct Scratch {
  float *keys, *values;       // [T, padded D]
  float *query_rows, *panel;  // [queries, padded D] and its transpose
  float *scores, *keep;       // [key_block, queries]
  float* output;              // [queries, padded D]
  float *maximum, *sum;       // [queries], of powers of two

  static int64_t size(const kernel::Attention& a) {
    const int64_t width = round_up(a.q.shape[3], lanes);
    return 2 * a.q.shape[1] * width + (3 * width + 2 * key_block + 2) * queries;
  }
  Scratch(const kernel::Attention& a, float* at) {
    const int64_t width = round_up(a.q.shape[3], lanes);
    const auto take = [&at](int64_t count) { return std::exchange(at, at + count); };
    keys = take(a.q.shape[1] * width), values = take(a.q.shape[1] * width);
    query_rows = take(queries * width), panel = take(queries * width);
    scores = take(key_block * queries), keep = take(key_block * queries);
    output = take(queries * width);
    maximum = take(queries), sum = take(queries);
  }
};

/// Scores become 2^(score − maximum); maximum and sum run on; what was summed before is rescaled.
void softmax_block(Reach reach, int64_t count, int64_t width, Scratch& s) {
  mask_later_keys(reach, masked, s.scores);
  float shrink[queries];
  for (int c = 0; c < 2; ++c) {
    float* scores = s.scores + c * lanes;
    const int64_t keys = reach.end(c) - reach.from;
    const Floats before = load(s.maximum + c * lanes);
    Floats maximum = before;
    for (int64_t key = 0; key < keys; ++key) {
      const Floats score = load(scores + key * queries);
      maximum = score > maximum ? score : maximum;
    }
    Floats sum{};
    for (int64_t key = 0; key < keys; ++key) {
      const Floats power = exp2_nonpositive(load(scores + key * queries) - maximum);
      store(scores + key * queries, power);
      sum += power;
    }
    const Floats factor = exp2_nonpositive(before - maximum);
    store(shrink + c * lanes, factor);
    store(s.maximum + c * lanes, maximum);
    store(s.sum + c * lanes, load(s.sum + c * lanes) * factor + sum);
  }
  if (reach.from == 0) return;  // nothing summed yet
  for (int64_t row = 0; row < count; ++row)
    for (int64_t i = 0; i < width; i += lanes) {
      float* place = s.output + row * width + i;
      store(place, load(place) * shrink[row]);
    }
}

/// output[query] += Σ_key scores[key][query]·values[key], over the keys that a group of rows sees.
void multiply_values(Reach reach, int64_t count, int64_t width, const float* values, Scratch& s) {
  for (int64_t row = 0; row < count; row += tile_rows) {
    const int64_t rows = std::min<int64_t>(tile_rows, count - row);
    const int64_t keys = std::min(reach.to, reach.query + row + rows) - reach.from;
    multiply(rows, width, keys, s.scores + row, 1, queries, values + reach.from * width, width,
             s.output + row * width, width, reach.from > 0);
  }
}

template <class T>
void store_block(const kernel::Attention& a, int64_t b, int64_t h, int64_t first, int64_t count,
                 const Scratch& s) {
  const int64_t width = round_up(a.q.shape[3], lanes);
  float logsum[queries];
  for (int c = 0; c < queries; c += lanes)
    store(logsum + c, load(s.maximum + c) * ln_2 + log_positive(load(s.sum + c)));
  float* to =
      static_cast<float*>(a.logsum.data) + b * a.logsum.strides[0] + h * a.logsum.strides[1];
  std::copy(logsum, logsum + count, to + first);
  for (int64_t row = 0; row < count; ++row)
    deposit_rows<T>(s.output + row * width, 1, 1 / s.sum[row], a.y, b, h, first + row, Write::set);
}

/// The queries [first, first + count) of one head.
template <class T>
void attend_block(const kernel::Attention& a, int64_t b, int64_t h, int64_t first,
                  const float* keys, const float* values, Scratch& s) {
  const int64_t length = a.q.shape[1], width = round_up(a.q.shape[3], lanes);
  const int64_t count = std::min<int64_t>(queries, length - first);
  const float scale = log2_e / std::sqrt(static_cast<float>(a.q.shape[3]));
  transpose_rows(copy_rows<T>(a.q, b, h, first, count, s.query_rows), count, width, scale, s.panel);
  std::fill(s.maximum, s.maximum + queries, masked);
  std::fill(s.sum, s.sum + queries, 0.0f);
  for (int64_t from = 0; from < first + count; from += key_block) {
    const Reach reach{first, from, std::min(first + count, from + key_block)};
    multiply_panel(reach, keys, width, s.panel, s.scores);
    softmax_block(reach, count, width, s);
    if (a.p > 0) {
      keep_factors(a, b, h, reach, s.keep);
      multiply_scores(reach, s.keep, s.scores);
    }
    multiply_values(reach, count, width, values, s);
  }
  store_block<T>(a, b, h, first, count, s);
}

template <class T>
void attend(const kernel::Attention& a, float* workspace) {
  const int64_t length = a.q.shape[1], heads = a.q.shape[2], all = a.q.shape[0] * heads;
  const int64_t blocks = (length + queries - 1) / queries, per_thread = Scratch::size(a);
  const int64_t threads = worth_a_fork(all, length, a.q.shape[3]) ? omp_get_max_threads() : 1;
  // A head is one task; where there are too few, its blocks are dealt out among several.
  const int64_t parts = all < 2 * threads ? std::min(2 * threads, blocks) : 1;
#pragma omp parallel for schedule(dynamic) if (threads > 1)
  for (int64_t task = 0; task < all * parts; ++task) {
    Scratch s(a, workspace + omp_get_thread_num() * per_thread);
    const int64_t b = task / parts / heads, h = task / parts % heads;
    const float* keys = copy_rows<T>(a.k, b, h, 0, length, s.keys);
    const float* values = copy_rows<T>(a.v, b, h, 0, length, s.values);
    for (int64_t block = blocks - 1 - task % parts; block >= 0; block -= parts)
      attend_block<T>(a, b, h, block * queries, keys, values, s);
  }
}

}  // namespace

size_t attention_workspace(const kernel::Attention& a) {
  return static_cast<size_t>(omp_get_max_threads() * Scratch::size(a)) * sizeof(float);
}

void attention(const kernel::Attention& a, void* workspace) {
  with_float(a.q.dtype, [&]<class T>(T) { attend<T>(a, static_cast<float*>(workspace)); });
}

}  // namespace accrue::cpu
