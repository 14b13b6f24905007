// Number formats: bf16's rounding, against its definition.
#include "accrue/core/dtype.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>

#include "accrue/core/philox.h"

using namespace accrue;

namespace {

BFloat16 of_bits(uint32_t bits) {
  BFloat16 value;
  value.bits = static_cast<uint16_t>(bits);
  return value;
}

}  // namespace

TEST_CASE("every one of the 65536 bf16 values comes back from f32 unchanged") {
  int wrong = 0;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float wide = of_bits(bits);
    const BFloat16 back(wide);
    // A NaN stays one, with its sign; only its quiet bit may be added.
    const bool same = std::isnan(wide) ? std::isnan(back) && (back.bits | 0x40) == (bits | 0x40)
                                       : back.bits == bits;
    wrong += !same;
  }
  CHECK(wrong == 0);
}

TEST_CASE("f32 numbers round to the nearer bf16 value, and ties to the even one") {
  CHECK(BFloat16(1 + 0x1p-8f).bits == 0x3f80);  // halfway above the even 1
  CHECK(BFloat16(1 + 0x3p-8f).bits == 0x3f82);  // halfway above the odd 1 + 2⁻⁷
  CHECK(BFloat16(-(1 + 0x1p-8f)).bits == 0xbf80);
  CHECK(BFloat16(std::nextafter(1 + 0x1p-8f, 2.f)).bits == 0x3f81);
  CHECK(BFloat16(std::nextafter(1 + 0x3p-8f, 0.f)).bits == 0x3f81);

  int wrong = 0;
  for (uint32_t i = 0; i < 200'000; ++i) {
    const uint32_t bits = philox({i, 0, 0, 0}, {1, 2})[0];
    const float x = std::bit_cast<float>(bits);
    if (!std::isfinite(x) || (bits >> 16 & 0x7fff) >= 0x7f7f) continue;
    const float down = of_bits(bits >> 16),
                up = of_bits((bits >> 16) + 1);  // towards and away from 0
    const double below = std::abs(double{x} - down), above = std::abs(double{up} - x);
    const bool even_below = (bits >> 16 & 1) == 0;
    const bool takes_below = below < above || (below == above && even_below);
    wrong += BFloat16(x) != (takes_below ? down : up);
  }
  CHECK(wrong == 0);
}

TEST_CASE(
    "infinities, NaNs, zeros and what lies beyond the largest bf16 value keep their meaning") {
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(BFloat16(infinity) == infinity);
  CHECK(BFloat16(-infinity) == -infinity);
  CHECK(BFloat16(std::numeric_limits<float>::max()) ==
        infinity);  // nearer to 2¹²⁸ than to the largest
  CHECK(std::isnan(BFloat16(std::numeric_limits<float>::quiet_NaN())));
  CHECK(std::isnan(BFloat16(std::bit_cast<float>(0x7f800001u))));  // all of its payload is cut off
  CHECK(BFloat16(-0.f).bits == 0x8000);
  CHECK(BFloat16(std::numeric_limits<float>::denorm_min()).bits == 0);
}

TEST_CASE("sizes, names and the dtype of sums fit each format") {
  const DType all[] = {DType::f32, DType::f64, DType::bf16, DType::i32, DType::i64, DType::u8};
  const size_t sizes[] = {4, 8, 2, 4, 8, 1};
  const std::string names[] = {"f32", "f64", "bf16", "i32", "i64", "u8"};
  for (int i = 0; i < 6; ++i) {
    CHECK(size_of(all[i]) == sizes[i]);
    CHECK(name_of(all[i]) == names[i]);
  }
  CHECK(wide(DType::bf16) == DType::f32);
  CHECK(wide(DType::f64) == DType::f64);
  CHECK(is_floating(DType::bf16));
  CHECK_FALSE(is_floating(DType::i64));
}
