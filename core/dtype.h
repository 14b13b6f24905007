// Number formats.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string_view>
#include <type_traits>

#include "accrue/core/functors/host_device.h"

namespace accrue {

enum class DType : uint8_t { f32, f64, bf16, f16, i32, i64, u8 };

/// The upper half of an f32: 8 bits of exponent, 8 of significand (unit roundoff 2⁻⁸).
struct BFloat16 {
  uint16_t bits = 0;
  BFloat16() = default;
  /// Rounds to nearest, ties to even; a NaN stays a NaN.
  ACCRUE_HD explicit BFloat16(float value) {
    const uint32_t raw = std::bit_cast<uint32_t>(value);
    const uint32_t rounded = (raw + 0x7fff + ((raw >> 16) & 1)) >> 16;
    const bool nan = (raw & 0x7fffffff) > 0x7f800000;
    bits = static_cast<uint16_t>(nan ? (raw >> 16) | 0x40 : rounded);
  }
  ACCRUE_HD operator float() const {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  }
};

namespace detail {

// Between f32 and the bits of a half, for single numbers (Real = float, Word = uint32_t) and for
// vectors of them.

/// size < limit ? yes : no, for numbers below 2³¹. Without a comparison, of which g++ would make a
/// branch around the sums below; it makes no vectors of branches.
template <class Word>
ACCRUE_HD inline Word where_less(Word size, uint32_t limit, Word yes, Word no) {
  const Word mask = Word{} - ((size - limit) >> 31);
  return (yes & mask) | (no & ~mask);
}

/// Rounds to nearest, ties to even; infinite from 65520 on; subnormals kept; a NaN stays a NaN.
template <class Word, class Real>
ACCRUE_HD inline Word half_of(Real value) {
  const Word raw = std::bit_cast<Word>(value), size = raw & 0x7fffffffu;
  const Word normal = (size + 0xc8000fffu + ((size >> 13) & 1u)) >> 13;  // exponent bias 127 → 15
  // Beside 0.5 an f32 has the spacing of subnormal halves, 2⁻²⁴: the sum rounds to it.
  const Word subnormal = std::bit_cast<Word>(std::bit_cast<Real>(size) + 0.5f) - 0x3f000000u;
  const Word nan = ((size >> 13) & 0x3ffu) | 0x7e00u, infinite = Word{} + 0x7c00u;
  const Word finite = where_less(size, 0x38800000u, subnormal, normal);  // 2⁻¹⁴
  const Word large = where_less(size, 0x7f800001u, infinite, nan);
  return where_less(size, 0x47800000u, finite, large) | ((raw >> 16) & 0x8000u);  // 2¹⁶
}

/// Exact.
template <class Real, class Word>
ACCRUE_HD inline Real real_of_half(Word half) {
  const Word size = (half & 0x7fffu) << 13;
  const Real least = std::bit_cast<Real>(Word{} + 0x38800000u);  // 2⁻¹⁴, the least normal half
  const Real subnormal = std::bit_cast<Real>(size + 0x38800000u) - least;
  const Word finite =
      where_less(size, 0x00800000u, std::bit_cast<Word>(subnormal), size + 0x38000000u);
  const Word value = where_less(size, 0x0f800000u, finite, size + 0x70000000u);
  return std::bit_cast<Real>(value | ((half & 0x8000u) << 16));
}

}  // namespace detail

/// IEEE 754's half: 5 bits of exponent, 11 of significand (unit roundoff 2⁻¹¹); up to 65504, normal
/// from 2⁻¹⁴ on, subnormal in steps of 2⁻²⁴.
struct Float16 {
  uint16_t bits = 0;
  Float16() = default;
  /// Rounds to nearest, ties to even; from 65520 on it is infinite; a NaN stays a NaN.
  ACCRUE_HD explicit Float16(float value)
      : bits(static_cast<uint16_t>(detail::half_of<uint32_t>(value))) {}
  ACCRUE_HD operator float() const {
    return detail::real_of_half<float>(static_cast<uint32_t>(bits));
  }
};

constexpr size_t size_of(DType type) {
  switch (type) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
      return 2;
    case DType::u8:
      return 1;
  }
  return 0;
}

constexpr bool is_floating(DType type) {
  return type == DType::f32 || type == DType::f64 || type == DType::bf16 || type == DType::f16;
}

/// The dtype in which sums over a tensor of `type` are kept: f64 for f64, else f32.
constexpr DType wide(DType type) { return type == DType::f64 ? DType::f64 : DType::f32; }

constexpr std::string_view name_of(DType type) {
  constexpr std::string_view names[] = {"f32", "f64", "bf16", "f16", "i32", "i64", "u8"};
  return names[static_cast<int>(type)];
}

inline std::ostream& operator<<(std::ostream& out, DType type) { return out << name_of(type); }

/// For a type that is no such number format it ends without a value, which does not compile.
template <class T>
constexpr DType find_dtype() {
  if constexpr (std::is_same_v<T, float>) return DType::f32;
  if constexpr (std::is_same_v<T, double>) return DType::f64;
  if constexpr (std::is_same_v<T, BFloat16>) return DType::bf16;
  if constexpr (std::is_same_v<T, Float16>) return DType::f16;
  if constexpr (std::is_same_v<T, int32_t>) return DType::i32;
  if constexpr (std::is_same_v<T, int64_t>) return DType::i64;
  if constexpr (std::is_same_v<T, uint8_t>) return DType::u8;
}
template <class T>
constexpr DType dtype_of = find_dtype<T>();

}  // namespace accrue
