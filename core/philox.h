// Philox4x32-10: random numbers as a pure function of a key and a counter.
// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once
#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>

#include "accrue/core/functors/host_device.h"

namespace accrue {

/// Ten Philox rounds. counter: 4 × 32 bits; key: 2 × 32 bits; four independent 32-bit results.
ACCRUE_HD constexpr std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter,
                                                   std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

/// Names a stream of random numbers. They depend on what they are drawn for, never on how a batch
/// is split, so recomputation and resuming need no saved state.
struct RandomKey {
  uint64_t stream = 0;  // hash of (seed, site's name, call within the micro-batch)
  int64_t cycle = 0;
  const int64_t* cycle_at = nullptr;  // on the device; given: its number, for kernels of a graph

  /// With the number itself: what a kernel with many draws begins with.
  ACCRUE_HD constexpr RandomKey resolved() const {
    return {stream, cycle_at ? *cycle_at : cycle, nullptr};
  }
  /// Four draws for elements 4·quad … 4·quad+3 of this global sample.
  ACCRUE_HD constexpr std::array<uint32_t, 4> draw(int64_t sample, uint64_t quad) const {
    return philox({static_cast<uint32_t>(quad), static_cast<uint32_t>(sample),
                   static_cast<uint32_t>(quad >> 32) ^ static_cast<uint32_t>(sample >> 32) << 16,
                   static_cast<uint32_t>(cycle_at ? *cycle_at : cycle)},
                  {static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)});
  }
};

/// FNV-1a, finished with a mixer: equal on every machine.
constexpr uint64_t hash_of(uint64_t seed, std::string_view name, uint64_t call = 0) {
  uint64_t h = 0xcbf29ce484222325 ^ seed * 0x9E3779B97F4A7C15;
  for (char c : name) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  h ^= call * 0xD6E8FEB86659FD93;
  h = (h ^ (h >> 32)) * 0xD6E8FEB86659FD93;
  h = (h ^ (h >> 32)) * 0xD6E8FEB86659FD93;
  return h ^ (h >> 32);
}

/// 32 random bits as a number in [0, 1), exact in f32.
ACCRUE_HD constexpr float uniform01(uint32_t bits) {
  return static_cast<float>(bits >> 8) * 0x1p-24f;
}

/// Two independent standard normal numbers from two draws (Box–Muller).
ACCRUE_HD inline std::array<double, 2> normal_pair(uint32_t a, uint32_t b) {
  const double radius = std::sqrt(-2 * std::log((a + 1.0) * 0x1p-32));
  const double angle = 6.283185307179586 * (b * 0x1p-32);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

}  // namespace accrue
