// Small pieces of vectorised loops: conversions, exp, tanh, and rows shared out among threads.
#pragma once
#include <omp.h>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include <bit>
#include <cstdint>
#include <cstring>

#include "accrue/core/dtype.h"

namespace accrue::cpu {

/// f32 numbers in the widest vector register that the build may use.
#if defined(__AVX512F__)
constexpr int lanes = 16;
constexpr __mmask16 all_lanes = 0xffff;  // g++ 12 warns of its own intrinsics that take no mask
#elif defined(__AVX__)
constexpr int lanes = 8;
#else
constexpr int lanes = 4;
#endif
/// One register of numbers, with the operators of its elements; loads and stores go through
/// load and store, which need no alignment.
typedef float Floats __attribute__((vector_size(lanes * 4)));
typedef uint32_t Bits __attribute__((vector_size(lanes * 4)));

inline Floats load(const float* from) {
  Floats values;
  std::memcpy(&values, from, sizeof values);
  return values;
}
inline void store(float* to, Floats values) { std::memcpy(to, &values, sizeof values); }

/// bf16 or f16 numbers, as many as Floats has.
typedef uint16_t Halves __attribute__((vector_size(lanes * 2)));
#if defined(__AVX512BF16__) && defined(__AVX512BW__)
// What the loops below become elsewhere takes GCC 12 five and ten instructions here.
inline Floats load(const BFloat16* from) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  const __m512i words = _mm512_maskz_cvtepu16_epi32(all_lanes, halves);
  return std::bit_cast<Floats>(_mm512_maskz_slli_epi32(all_lanes, words, 16));
}
/// Rounds to nearest, ties to even; a NaN stays a NaN; subnormal numbers become zero.
inline void store(BFloat16* to, Floats values) {
  const __m256bh halves = _mm512_cvtneps_pbh(std::bit_cast<__m512>(values));
  std::memcpy(static_cast<void*>(to), &halves, sizeof halves);
}
#else
inline Floats load(const BFloat16* from) {
  Halves values;
  std::memcpy(&values, from, sizeof values);
  return std::bit_cast<Floats>(__builtin_convertvector(values, Bits) << 16);
}
/// Rounds to nearest, ties to even; a NaN stays a NaN.
inline void store(BFloat16* to, Floats values) {
  const Bits raw = std::bit_cast<Bits>(values);
  const Bits rounded = (raw + 0x7fff + ((raw >> 16) & 1)) >> 16;
  const Bits bits = (raw & 0x7fffffff) > 0x7f800000 ? (raw >> 16) | 0x40 : rounded;
  const Halves halves = __builtin_convertvector(bits, Halves);
  std::memcpy(static_cast<void*>(to), &halves, sizeof halves);
}
#endif

#if defined(__AVX512F__)
inline Floats load(const Float16* from) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return std::bit_cast<Floats>(_mm512_maskz_cvtph_ps(all_lanes, halves));
}
/// Rounds to nearest, ties to even; infinite from 65520 on; a NaN stays a NaN.
inline void store(Float16* to, Floats values) {
  const __m256i halves =
      _mm512_maskz_cvtps_ph(all_lanes, std::bit_cast<__m512>(values), _MM_FROUND_TO_NEAREST_INT);
  std::memcpy(static_cast<void*>(to), &halves, sizeof halves);
}
#else
inline Floats load(const Float16* from) {
  Halves values;
  std::memcpy(&values, from, sizeof values);
  return detail::real_of_half<Floats>(__builtin_convertvector(values, Bits));
}
/// Rounds to nearest, ties to even; infinite from 65520 on; a NaN stays a NaN.
inline void store(Float16* to, Floats values) {
  const Halves halves = __builtin_convertvector(detail::half_of<Bits>(values), Halves);
  std::memcpy(static_cast<void*>(to), &halves, sizeof halves);
}
#endif

// Always inline, here and in other formulas: g++ stops inlining where a file instantiates many
// loops, and a call per register costs a loop a tenth to a fifth of its speed.

/// x = n·ln 2 + r, n integral; `minus_one` is e^r − 1, accurate near zero.
/// Works on float and on Floats; polynomial: minimax fit, relative error 4e-9 on |r| ≤ ln2/2.
template <class V>
struct ExponentSplit {
  V n, minus_one;
  [[gnu::always_inline]] explicit ExponentSplit(V x) {
    constexpr float round = 12582912.0f;  // 1.5·2²³: adding it leaves the nearest integer
    n = (x * 1.44269504f + round) - round;
    const V r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts, the first exact
    const V q =
        (((r * 1.38145394e-3f + 8.36874545e-3f) * r + 4.16683890e-2f) * r + 0.166665211f) * r +
        0.49999994f;
    minus_one = r + r * r * q;
  }
};

/// 2^n for an integral n in [−126, 127]; 0 for −127. The sum leaves n + 127 in its lowest bits.
inline float power_of_two(float n) {
  return std::bit_cast<float>(std::bit_cast<uint32_t>(n + 12583039.0f) << 23);
}
inline Floats power_of_two(Floats n) {
  return std::bit_cast<Floats>(std::bit_cast<Bits>(n + 12583039.0f) << 23);
}

/// e^x within 2 units in the last place, for float and Floats: inf above 88.73, NaN for NaN, and
/// exactly 0 below −87, where subnormal results would cost an assist each.
template <class V>
[[gnu::always_inline]] inline V fast_exp(V x) {
  x = x > 89.0f ? V{} + 89.0f : x;
  x = x < -87.2f ? V{} - 87.2f : x;
  const ExponentSplit<V> split(x);
  return (split.minus_one * 2.0f + 2.0f) * power_of_two(split.n - 1.0f);
}

/// tanh x within 3 units in the last place, near zero too; NaN for NaN.
template <class V>
[[gnu::always_inline]] inline V fast_tanh(V x) {
  x = x > 10.0f ? V{} + 10.0f : x;
  x = x < -10.0f ? V{} - 10.0f : x;
  const ExponentSplit<V> split(x + x);
  const V scale = power_of_two(split.n);
  const V minus_one = scale * split.minus_one + (scale - 1.0f);  // e^2x − 1 without cancellation
  return minus_one / (minus_one + 2.0f);
}

/// One stage of the transpose: exchanges the off-diagonal quarters of each square of 2·step.
template <int step, int size, class Vector>
[[gnu::always_inline]] inline void exchange(Vector (&rows)[size]) {
  decltype(rows[0] == rows[0]) first, second;
  for (int lane = 0; lane < size; ++lane) {
    first[lane] = lane & step ? size + lane - step : lane;
    second[lane] = lane & step ? size + lane : lane + step;
  }
  for (int i = 0; i < size; ++i) {
    if (i & step) continue;
    const Vector upper = rows[i], lower = rows[i + step];
    rows[i] = __builtin_shuffle(upper, lower, first);
    rows[i + step] = __builtin_shuffle(upper, lower, second);
  }
}

/// Exchanges rows and columns of a square of 32-bit numbers, a register a row.
template <int size, class Vector>
[[gnu::always_inline]] inline void transpose(Vector (&rows)[size]) {
  if constexpr (size >= 16) exchange<8>(rows);
  if constexpr (size >= 8) exchange<4>(rows);
  exchange<2>(rows);
  exchange<1>(rows);
}

/// Runs body(first, last) over [0, rows), split evenly and always alike for one number of threads.
/// `work_per_row` is in simple element operations; what would take about as long as the fork of a
/// parallel region (1–3 µs) stays in the caller's thread. The body must not throw.
template <class Body>
inline void parallel_rows(int64_t rows, int64_t work_per_row, const Body& body) {
  constexpr int64_t worth_a_fork = 16384;
  if (rows < 2 || rows * work_per_row < worth_a_fork || omp_get_max_threads() == 1) {
    if (rows > 0) body(int64_t{0}, rows);
    return;
  }
#pragma omp parallel
  {
    const int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
    const int64_t first = rows * thread / threads, last = rows * (thread + 1) / threads;
    if (first < last) body(first, last);
  }
}

}  // namespace accrue::cpu
