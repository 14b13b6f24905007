// Random numbers: Philox against its published vectors, and the keys made of it.
#include "accrue/core/philox.h"

#include <doctest/doctest.h>

#include <limits>
#include <set>

using namespace accrue;

TEST_CASE("Philox4x32-10 gives the known answers of Random123's kat_vectors") {
  using Counter = std::array<uint32_t, 4>;
  constexpr uint32_t ones = 0xffffffff;
  CHECK(philox({0, 0, 0, 0}, {0, 0}) == Counter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox({ones, ones, ones, ones}, {ones, ones}) ==
        Counter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Counter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("stream, cycle, sample and quad each change the draws, in every bit they have") {
  std::set<std::array<uint32_t, 4>> seen{RandomKey{}.draw(0, 0)};
  size_t keys = 1;
  const auto add = [&](const RandomKey& key, int64_t sample, uint64_t quad) {
    seen.insert(key.draw(sample, quad));
    ++keys;
  };
  for (int bit = 0; bit < 64; ++bit) add({uint64_t{1} << bit, 0}, 0, 0);
  for (int bit = 0; bit < 32; ++bit) add({0, int64_t{1} << bit}, 0, 0);
  for (int bit = 0; bit < 48; ++bit) add({}, int64_t{1} << bit, 0);
  for (int bit = 0; bit < 48; ++bit) add({}, 0, uint64_t{1} << bit);
  CHECK(seen.size() == keys);
}

TEST_CASE("hashes tell seeds, names and calls apart") {
  CHECK(hash_of(1, "a") != hash_of(2, "a"));
  CHECK(hash_of(1, "a") != hash_of(1, "b"));
  CHECK(hash_of(1, "ab") != hash_of(1, "ba"));
  CHECK(hash_of(1, "a", 1) != hash_of(1, "a", 2));
  static_assert(hash_of(0, "") == hash_of(0, ""), "a hash is a constant");
}

TEST_CASE("uniform numbers stay in [0, 1) and normal ones stay finite, at the ends of the range") {
  constexpr uint32_t most = std::numeric_limits<uint32_t>::max();
  CHECK(uniform01(0) == 0);
  CHECK(uniform01(most) < 1);
  for (uint32_t a : {0u, 1u, most})
    for (uint32_t b : {0u, most})
      for (double x : normal_pair(a, b)) CHECK(std::isfinite(x));
}

TEST_CASE("normal numbers have the moments of the normal distribution") {
  constexpr int n = 1 << 16;
  double sum = 0, squares = 0, products = 0;
  for (uint32_t i = 0; i < n; ++i) {
    const auto bits = RandomKey{hash_of(7, "moments")}.draw(i, 0);
    const auto [x, y] = normal_pair(bits[0], bits[1]);
    sum += x + y;
    squares += x * x + y * y;
    products += x * y;
  }
  // Five standard errors: the mean of 2n has 1/√2n, of squares √2/√2n, of n products 1/√n.
  CHECK(std::abs(sum / (2 * n)) < 5 / std::sqrt(2. * n));
  CHECK(std::abs(squares / (2 * n) - 1) < 5 / std::sqrt(1. * n));
  CHECK(std::abs(products / n) < 5 / std::sqrt(1. * n));
}
