// Number formats.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string_view>

namespace accrue {

enum class DType : uint8_t { f32, f64, bf16, i32, i64, u8 };

/// The upper half of an f32: 8 bits of exponent, 8 of significand (unit roundoff 2⁻⁸).
struct BFloat16 {
  uint16_t bits = 0;
  BFloat16() = default;
  /// Rounds to nearest, ties to even; a NaN stays a NaN.
  explicit BFloat16(float value) {
    const uint32_t raw = std::bit_cast<uint32_t>(value);
    const uint32_t rounded = (raw + 0x7fff + ((raw >> 16) & 1)) >> 16;
    const bool nan = (raw & 0x7fffffff) > 0x7f800000;
    bits = static_cast<uint16_t>(nan ? (raw >> 16) | 0x40 : rounded);
  }
  operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
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
      return 2;
    case DType::u8:
      return 1;
  }
  return 0;
}

constexpr bool is_floating(DType type) {
  return type == DType::f32 || type == DType::f64 || type == DType::bf16;
}

/// The dtype in which sums over a tensor of `type` are kept: f64 for f64, else f32.
constexpr DType wide(DType type) { return type == DType::f64 ? DType::f64 : DType::f32; }

constexpr std::string_view name_of(DType type) {
  constexpr std::string_view names[] = {"f32", "f64", "bf16", "i32", "i64", "u8"};
  return names[static_cast<int>(type)];
}

inline std::ostream& operator<<(std::ostream& out, DType type) { return out << name_of(type); }

template <class T>
struct DTypeOf;  // no such number format: does not compile
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::i64;
};

template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::u8;
};
template <class T>
constexpr DType dtype_of = DTypeOf<T>::value;

}  // namespace accrue
