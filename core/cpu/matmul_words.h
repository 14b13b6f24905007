// Sixteen words in a register, and the transpose of sixteen such: what layouts of matrices are
// made of. Of any build; where registers are narrower, a vector is several of them.
#pragma once
#include <cstdint>
#include <cstring>

namespace accrue::cpu {

constexpr int tile = 16;  // words of a vector, and rows of a square that is transposed at once
typedef uint32_t Words __attribute__((vector_size(tile * 4)));
typedef uint16_t Halves32 __attribute__((vector_size(tile * 4)));

/// By reference: a vector wider than the build's registers cannot be returned.
template <class Vector>
inline void load_words(Vector& to, const void* from) {
  std::memcpy(&to, from, sizeof to);
}
inline void store_words(void* to, const Words& words) { std::memcpy(to, &words, sizeof words); }

/// One stage of the transpose: exchanges the off-diagonal quarters of each square of 2·step.
template <int step>
inline void exchange(Words (&rows)[tile]) {
  Words first, second;
  for (int lane = 0; lane < tile; ++lane) {
    first[lane] = lane & step ? tile + lane - step : lane;
    second[lane] = lane & step ? tile + lane : lane + step;
  }
  for (int i = 0; i < tile; ++i) {
    if (i & step) continue;
    const Words upper = rows[i], lower = rows[i + step];
    rows[i] = __builtin_shuffle(upper, lower, first);
    rows[i + step] = __builtin_shuffle(upper, lower, second);
  }
}

inline void transpose(Words (&rows)[tile]) {
  exchange<8>(rows);
  exchange<4>(rows);
  exchange<2>(rows);
  exchange<1>(rows);
}

/// low, high = the 32 pairs (even[i], odd[i]) of halves as words.
inline void interleave(const void* even, const void* odd, Words& low, Words& high) {
  Halves32 first, second;
  for (int lane = 0; lane < 2 * tile; ++lane) {
    first[lane] = lane / 2 + lane % 2 * 2 * tile;
    second[lane] = first[lane] + tile;
  }
  Halves32 a, b;
  load_words(a, even);
  load_words(b, odd);
  low = reinterpret_cast<Words>(__builtin_shuffle(a, b, first));
  high = reinterpret_cast<Words>(__builtin_shuffle(a, b, second));
}

}  // namespace accrue::cpu
