// Number formats: the rounding of bf16 and f16, against its definition.
#include "accrue/core/dtype.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>

#include "accrue/core/kernels.h"
#include "accrue/core/philox.h"

using namespace accrue;

namespace {

template <class T>
T of_bits(uint32_t bits) {
  T value;
  value.bits = static_cast<uint16_t>(bits);
  return value;
}

}  // namespace

TEST_CASE("every one of the 65536 bf16 values comes back from f32 unchanged") {
  int wrong = 0;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float wide = of_bits<BFloat16>(bits);
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
    const float down = of_bits<BFloat16>(bits >> 16),
                up = of_bits<BFloat16>((bits >> 16) + 1);  // towards and away from 0
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

// What follows is of f16, which has 2048 subnormal numbers and overflows early.

TEST_CASE("every one of the 65536 halves is what IEEE 754 says, and comes back unchanged") {
  int wrong = 0;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
    const double size = exponent == 31  ? (fraction ? NAN : INFINITY)
                        : exponent == 0 ? std::ldexp(fraction, -24)
                                        : std::ldexp(1024 + fraction, exponent - 25);
    const float wide = of_bits<Float16>(bits);
    const Float16 back(wide);
    const bool same = std::isnan(size)
                          ? std::isnan(wide) && (back.bits | 0x200) == (bits | 0x200)
                          : double{wide} == (bits >> 15 ? -size : size) && back.bits == bits;
    wrong += !same;
  }
  CHECK(wrong == 0);
}

TEST_CASE("between two neighbouring halves the nearer one is taken, and midway the even one") {
  int wrong = 0;
  for (uint32_t below = 0; below < 0x7c00; ++below) {
    // The last one's upper neighbour would be 2¹⁶, were it not infinite.
    const float low = of_bits<Float16>(below);
    const float high = below == 0x7bff ? 0x1p16f : float(of_bits<Float16>(below + 1));
    const float middle = low + (high - low) / 2;  // exact: f32 has 13 bits more
    const uint32_t even = below + (below & 1);
    for (uint32_t sign : {0x0u, 0x8000u}) {
      const float factor = sign ? -1.f : 1.f;
      const auto rounds = [&](float x, uint32_t to) {
        wrong += Float16(factor * x).bits != (sign | to);
      };
      rounds(std::nextafter(low, high), below);
      rounds(std::nextafter(middle, low), below);
      rounds(middle, even);
      rounds(std::nextafter(middle, high), below + 1);
      rounds(std::nextafter(high, low), below + 1);
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("the edges of f16") {
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(Float16(65504.f).bits == 0x7bff);  // the largest
  CHECK(Float16(std::nextafter(65520.f, 0.f)).bits == 0x7bff);
  CHECK(Float16(65520.f) == infinity);  // midway to 2¹⁶, which would be even
  CHECK(Float16(-65520.f) == -infinity);
  CHECK(Float16(std::numeric_limits<float>::max()) == infinity);
  CHECK(Float16(infinity).bits == 0x7c00);
  CHECK(Float16(0x1p-14f).bits == 0x0400);  // the least normal number
  CHECK(Float16(0x1p-24f).bits == 0x0001);  // the least of all
  CHECK(Float16(0x1p-25f).bits == 0);       // midway to 0, which is even
  CHECK(Float16(std::nextafter(0x1p-25f, 1.f)).bits == 0x0001);
  CHECK(Float16(0x3p-25f).bits == 0x0002);
  CHECK(Float16(std::numeric_limits<float>::denorm_min()).bits == 0);
  CHECK(Float16(-0.f).bits == 0x8000);
  CHECK(Float16(1 / 3.f).bits == 0x3555);
  CHECK(std::isnan(Float16(std::numeric_limits<float>::quiet_NaN())));
  CHECK(std::isnan(Float16(std::bit_cast<float>(0x7f800001u))));  // all of its payload is cut off
}

TEST_CASE("the cpu backend's registers convert f16 as single numbers are converted") {
  const Device cpu = Device::cpu();
  std::vector<Float16> halves;
  std::vector<float> floats;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) halves.push_back(of_bits<Float16>(bits));
  for (uint32_t i = 0; i < 100'000; ++i) {
    // Any f32, and in turn those that f16 has room for.
    const uint32_t random = philox({i, 0, 0, 0}, {3, 4})[0];
    floats.push_back(std::bit_cast<float>(i % 2 ? random : (random & 0x8fffffffu) | 0x30000000u));
  }
  const Tensor narrow = Tensor::of<Float16>({0x10000}, halves, cpu);
  const Tensor wide = Tensor::of<float>({100'000}, floats, cpu);
  Tensor widened(narrow.shape(), DType::f32, cpu), narrowed(wide.shape(), DType::f16, cpu);
  launch(cpu, kernel::Copy{narrow.in(), widened.out(), Write::set});
  launch(cpu, kernel::Copy{wide.in(), narrowed.out(), Write::set});

  int wrong = 0;
  for (size_t i = 0; i < halves.size(); ++i) {
    const float expected = halves[i], got = widened.data<float>()[i];
    wrong += !(std::isnan(expected) ? std::isnan(got) : got == expected);
  }
  for (size_t i = 0; i < floats.size(); ++i)
    wrong += narrowed.data<Float16>()[i].bits != Float16(floats[i]).bits;
  CHECK(wrong == 0);
}

TEST_CASE("sizes, names and the dtype of sums fit each format") {
  const DType all[] = {DType::f32, DType::f64, DType::bf16, DType::f16,
                       DType::i32, DType::i64, DType::u8};
  const size_t sizes[] = {4, 8, 2, 2, 4, 8, 1};
  const std::string names[] = {"f32", "f64", "bf16", "f16", "i32", "i64", "u8"};
  for (int i = 0; i < 7; ++i) {
    CHECK(size_of(all[i]) == sizes[i]);
    CHECK(name_of(all[i]) == names[i]);
  }
  CHECK(wide(DType::bf16) == DType::f32);
  CHECK(wide(DType::f16) == DType::f32);
  CHECK(wide(DType::f64) == DType::f64);
  CHECK(is_floating(DType::bf16));
  CHECK(is_floating(DType::f16));
  CHECK_FALSE(is_floating(DType::i64));
}
