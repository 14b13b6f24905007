// Philox4x32-10 for as many counters at once as a register has lanes; bits as in philox.h.
#pragma once
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include <cmath>

#include "accrue/core/cpu/vector.h"
#include "accrue/core/philox.h"

namespace accrue::cpu {

/// The high halves of the 64-bit products factor·x.
#if defined(__AVX512F__)
typedef uint64_t Wide __attribute__((vector_size(lanes * 4)));
inline Bits multiply_high(uint32_t factor, Bits x) {  // g++ 12 finds no 32 × 32 → 64 bit product
  const auto product = [factor](Wide even_lanes) {
    return _mm512_maskz_mul_epu32(0xff, std::bit_cast<__m512i>(even_lanes),
                                  std::bit_cast<__m512i>(Bits{} + factor));
  };
  const Wide wide = std::bit_cast<Wide>(x);
  return std::bit_cast<Bits>(
      _mm512_mask_shuffle_epi32(product(wide >> 32), 0x5555, product(wide), _MM_PERM_DDBB));
}
#else
inline Bits multiply_high(uint32_t factor, Bits x) {
  Bits high;
  for (int i = 0; i < lanes; ++i) high[i] = static_cast<uint32_t>((uint64_t{factor} * x[i]) >> 32);
  return high;
}
#endif

/// words[w][i] = word w of key.draw(sample, quad of lane i), the quad in two halves.
inline void draw(RandomKey key, int64_t sample, Bits quad_low, Bits quad_high, Bits (&words)[4]) {
  const uint64_t global = static_cast<uint64_t>(sample);
  Bits a = quad_low, b = Bits{} + static_cast<uint32_t>(global);
  Bits c = quad_high ^ (static_cast<uint32_t>(global >> 32) << 16);
  Bits d = Bits{} + static_cast<uint32_t>(key.resolved().cycle);
  uint32_t key_a = static_cast<uint32_t>(key.stream),
           key_b = static_cast<uint32_t>(key.stream >> 32);
  for (int round = 0; round < 10; ++round) {
    const Bits a_high = multiply_high(0xD2511F53, a), a_low = a * 0xD2511F53;
    const Bits c_high = multiply_high(0xCD9E8D57, c), c_low = c * 0xCD9E8D57;
    a = c_high ^ b ^ key_a;
    b = c_low;
    c = a_high ^ d ^ key_b;
    d = a_low;
    key_a += 0x9E3779B9;
    key_b += 0xBB67AE85;
  }
  words[0] = a, words[1] = b, words[2] = c, words[3] = d;
}

/// words[4·i + w] = word w of key.draw(sample, quad + i).
inline void draw_row(RandomKey key, int64_t sample, uint64_t quad, uint32_t (&words)[4 * lanes]) {
  Bits low, high, by_word[4];
  for (int i = 0; i < lanes; ++i)
    low[i] = static_cast<uint32_t>(quad + i), high[i] = static_cast<uint32_t>((quad + i) >> 32);
  draw(key, sample, low, high, by_word);
  for (int i = 0; i < lanes; ++i)
    for (int w = 0; w < 4; ++w) words[4 * i + w] = by_word[w][i];
}

/// What dropout multiplies by: 0 with probability p, else 1/(1 − p).
struct Keep {
  uint32_t threshold;  // uniform01(bits) ≥ p exactly where bits >> 8 ≥ threshold
  float factor;
  explicit Keep(double p)
      : threshold(static_cast<uint32_t>(std::ceil(p * 0x1p24))),
        factor(static_cast<float>(1 / (1 - p))) {}
  Floats operator()(Bits bits) const {
    return (bits >> 8) >= threshold ? Floats{} + factor : Floats{};
  }
};

}  // namespace accrue::cpu
