// What forward and backward attention share: products of small tiles, and rows of a head as f32.
//
// A block is `queries` queries wide, one query per vector lane, so that the softmax over keys needs
// no sums across lanes: scores lie as [key][query].
#pragma once
#include <algorithm>
#include <cmath>
#include <utility>

#include "accrue/core/cpu/draws.h"
#include "accrue/core/kernels.h"

namespace accrue::cpu {

constexpr int queries = 2 * lanes;              // of a block: two registers
constexpr int key_block = 64;                   // a multiple of `queries`
constexpr int tile_rows = lanes == 16 ? 8 : 4;  // accumulators of a tile fit the registers
constexpr float log2_e = 1.44269504f, ln_2 = 0.693147181f;

constexpr int64_t round_up(int64_t size, int64_t to) { return (size + to - 1) / to * to; }

/// c[R][C·lanes] = or += Σ_k a(r, k)·b[k][C·lanes], with a(r, k) at a[r·a_row + k·a_inner].
template <int R, int C>
inline __attribute__((always_inline)) void multiply_tile(int64_t inner, const float* a,
                                                         int64_t a_row, int64_t a_inner,
                                                         const float* b, int64_t b_row, float* c,
                                                         int64_t c_row, bool add) {
  Floats sum[R][C];
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < C; ++j) sum[r][j] = add ? load(c + r * c_row + j * lanes) : Floats{};
  for (int64_t k = 0; k < inner; ++k) {
    Floats row[C];
    for (int j = 0; j < C; ++j) row[j] = load(b + k * b_row + j * lanes);
    for (int r = 0; r < R; ++r)
      for (int j = 0; j < C; ++j) sum[r][j] += a[r * a_row + k * a_inner] * row[j];
  }
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < C; ++j) store(c + r * c_row + j * lanes, sum[r][j]);
}

/// The same for any number of rows, and of columns that is a multiple of lanes.
inline __attribute__((always_inline)) void multiply(int64_t rows, int64_t columns, int64_t inner,
                                                    const float* a, int64_t a_row, int64_t a_inner,
                                                    const float* b, int64_t b_row, float* c,
                                                    int64_t c_row, bool add) {
  int64_t r = 0;
  for (; r + tile_rows <= rows; r += tile_rows) {
    int64_t j = 0;
    for (; j + 2 * lanes <= columns; j += 2 * lanes)
      multiply_tile<tile_rows, 2>(inner, a + r * a_row, a_row, a_inner, b + j, b_row,
                                  c + r * c_row + j, c_row, add);
    if (j < columns)
      multiply_tile<tile_rows, 1>(inner, a + r * a_row, a_row, a_inner, b + j, b_row,
                                  c + r * c_row + j, c_row, add);
  }
  for (; r < rows; ++r)
    for (int64_t j = 0; j < columns; j += lanes)
      multiply_tile<1, 1>(inner, a + r * a_row, a_row, a_inner, b + j, b_row, c + r * c_row + j,
                          c_row, add);
}

/// 2^x for x ≤ 0: relative error 2e-7; exactly 0 below −126; NaN for NaN.
inline Floats exp2_nonpositive(Floats x) {
  constexpr float round = 12583039.0f;  // 1.5·2²³ + 127: the sum's low bits are the biased exponent
  x = x < -127.0f ? Floats{} - 127.0f : x;
  const Floats biased = x + round;
  const Floats r = x - (biased - round);          // |r| ≤ 1/2
  Floats p = r * 1.53533096e-4f + 1.3398939e-3f;  // minimax fit
  p = ((p * r + 9.61843785e-3f) * r + 5.55033237e-2f) * r + 0.240226477f;
  p = (p * r + 0.693147182f) * r + 1.0f;
  return p * std::bit_cast<Floats>(std::bit_cast<Bits>(biased) << 23);
}

/// Natural logarithm of positive normal numbers: 2·atanh((m − 1)/(m + 1)) + e·ln 2 for x = m·2^e.
inline Floats log_positive(Floats x) {
  const Bits bits = std::bit_cast<Bits>(x);
  const Bits exponent = (bits - 0x3f3504f3u) >> 23;  // of x/√½, so that m lies in [√½, √2)
  const Floats m = std::bit_cast<Floats>(bits - (exponent << 23));
  const Floats e = std::bit_cast<Floats>(exponent | 0x4b000000u) - 8388608.0f;
  const Floats z = (m - 1.0f) / (m + 1.0f), w = z * z;
  const Floats series = (((w * (1.0f / 9) + 1.0f / 7) * w + 1.0f / 5) * w + 1.0f / 3) * w + 1.0f;
  return e * ln_2 + 2.0f * z * series;
}

/// Positions of one head of one sample in a [B, T, H, D] view.
template <class T>
T* head_of(const Out& x, int64_t b, int64_t h) {
  return static_cast<T*>(x.data) + b * x.strides[0] + h * x.strides[2];
}
template <class T>
const T* head_of(const In& x, int64_t b, int64_t h) {
  return static_cast<const T*>(x.data) + b * x.strides[0] + h * x.strides[2];
}

/// Rows a page apart are not prefetched by the hardware. Harmless where the row is not the
/// tensor's.
constexpr int64_t ahead = 8;
template <class T>
inline void prefetch_row(const T* row, int64_t width) {
  for (int64_t i = 0; i < width; i += 64 / sizeof(T)) __builtin_prefetch(row + i);
}

/// Rows [first, first + count) of a head as f32 in `to`, padded with zeros to a multiple of lanes.
/// Copied even where they are f32: rows that lie a page apart cost more in every block than one
/// copy does.
template <class T>
const float* copy_rows(const In& x, int64_t b, int64_t h, int64_t first, int64_t count, float* to) {
  const int64_t width = x.shape[3], padded = round_up(width, lanes);
  const T* from = head_of<T>(x, b, h) + first * x.strides[1];
  for (int64_t row = 0; row < count; ++row, from += x.strides[1], to += padded) {
    prefetch_row(from + ahead * x.strides[1], width);
    int64_t i = 0;
    for (; i + lanes <= width; i += lanes) store(to + i, load(from + i));
    if (i == width) continue;
    store(to + i, Floats{});
    for (; i < width; ++i) to[i] = float(from[i]);
  }
  return to - count * padded;
}

/// panel[i][query] = factor·rows[query][i], zero for queries beyond `count`.
inline void transpose_rows(const float* rows, int64_t count, int64_t width, float factor,
                           float* panel) {
  for (int64_t first = 0; first < queries; first += lanes)
    for (int64_t i = 0; i < width; i += lanes) {
      Floats block[lanes];
      for (int64_t row = 0; row < lanes; ++row)
        block[row] =
            first + row < count ? load(rows + (first + row) * width + i) * factor : Floats{};
      transpose(block);
      for (int64_t j = 0; j < lanes; ++j) store(panel + (i + j) * queries + first, block[j]);
    }
}

/// to[row][i] = or += factor·from[row][i], one factor for all rows.
template <class T>
void deposit_rows(const float* from, int64_t count, float factor, const Out& to, int64_t b,
                  int64_t h, int64_t first, Write write) {
  const int64_t width = to.shape[3], padded = round_up(width, lanes);
  T* place = head_of<T>(to, b, h) + first * to.strides[1];
  const bool add = write == Write::add;
  for (int64_t row = 0; row < count; ++row, from += padded, place += to.strides[1]) {
    prefetch_row(place + ahead * to.strides[1], width);
    int64_t i = 0;
    for (; i + lanes <= width; i += lanes)
      store(place + i, (add ? load(place + i) : Floats{}) + load(from + i) * factor);
    for (; i < width; ++i) place[i] = T((add ? float(place[i]) : 0) + from[i] * factor);
  }
}

/// How far a block of keys reaches for the queries [first, first + count): keys [from, to), of
/// which register c of the queries needs those before end(c).
struct Reach {
  int64_t query, from, to;
  int64_t end(int c) const { return std::min(to, query + (c + 1) * lanes); }
};

/// scores[key][query] = Σ_i rows[key][i]·panel[i][query] wherever some lane of a register needs it.
inline void multiply_panel(Reach reach, const float* rows, int64_t width, const float* panel,
                           float* scores) {
  const int64_t both = std::max(reach.from, reach.end(0));
  multiply(both - reach.from, queries, width, rows + reach.from * width, width, 1, panel, queries,
           scores, queries, false);
  multiply(reach.to - both, lanes, width, rows + both * width, width, 1, panel + lanes, queries,
           scores + (both - reach.from) * queries + lanes, queries, false);
}

/// Puts `value` where the key lies after the query.
inline void mask_later_keys(Reach reach, float value, float* scores) {
  for (int c = 0; c < 2; ++c)
    for (int64_t key = std::max(reach.from, reach.query + c * lanes); key < reach.end(c); ++key) {
      float* row = scores + (key - reach.from) * queries + c * lanes;
      for (int64_t i = 0; i < key - reach.query - c * lanes; ++i) row[i] = value;
    }
}

/// keep[key][query] = what dropout multiplies this probability by. Args: Attention or its backward.
template <class Args>
void keep_factors(const Args& a, int64_t b, int64_t h, Reach reach, float* keep) {
  const int64_t length = a.q.shape[1], sample = static_cast<const int64_t*>(a.samples.data)[b];
  const uint64_t row = (h * length + reach.query) * length;  // element number of query 0, key 0
  const Keep factors(a.p);
  for (int64_t c = 0; c < queries; c += lanes)
    for (int64_t key = reach.from; key < reach.to; ++key) {
      Bits low, high, word;
      for (int64_t i = 0; i < lanes; ++i) {
        const uint64_t element = row + (c + i) * length + key;
        low[i] = static_cast<uint32_t>(element / 4), high[i] = static_cast<uint32_t>(element >> 34);
        word[i] = element % 4;
      }
      Bits words[4];
      draw(a.key, sample, low, high, words);
      float* place = keep + (key - reach.from) * queries + c;
      if (length % 4 == 0) {  // four keys share their draw in every lane
        for (int w = 0; w < 4; ++w) store(place + w * queries, factors(words[w]));
        key += 3;
      } else {
        const Bits upper = word & 1 ? words[3] : words[2], lower = word & 1 ? words[1] : words[0];
        store(place, factors(word & 2 ? upper : lower));
      }
    }
}

/// scores ∘= keep.
inline void multiply_scores(Reach reach, const float* keep, float* scores) {
  for (int64_t i = 0; i < (reach.to - reach.from) * queries; i += lanes)
    store(scores + i, load(scores + i) * load(keep + i));
}

/// Whether this many heads take long enough to share among threads (a fork costs about 1 µs).
inline bool worth_a_fork(int64_t heads, int64_t length, int64_t width) {
  return heads * length * length * width > 1 << 18;
}

}  // namespace accrue::cpu
