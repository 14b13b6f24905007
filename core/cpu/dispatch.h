// From values known at run time to types known at compile time, once per call.
#pragma once
#include <type_traits>

#include "accrue/core/cpu/vector.h"
#include "accrue/core/kernels.h"

namespace accrue::cpu {

/// The formats of activations and gradients: those with fast loops.
constexpr bool is_fast(DType type) {
  return type == DType::f32 || type == DType::bf16 || type == DType::f16;
}

/// body(float{}), body(BFloat16{}) or body(Float16{}).
template <class Body>
inline void with_float(DType type, const Body& body) {
  if (type == DType::bf16)
    body(BFloat16{});
  else if (type == DType::f16)
    body(Float16{});
  else
    body(float{});
}

/// body(T{}) for the T of any dtype.
template <class Body>
inline void with_any(DType type, const Body& body) {
  switch (type) {
    case DType::f64:
      return body(double{});
    case DType::i32:
      return body(int32_t{});
    case DType::i64:
      return body(int64_t{});
    case DType::u8:
      return body(uint8_t{});
    default:
      return with_float(type, body);
  }
}

template <Write how>
using Writing = std::integral_constant<Write, how>;

/// body(write), where put(write, …) is decided at compile time.
template <class Body>
inline void with_write(Write write, const Body& body) {
  if (write == Write::set)
    body(Writing<Write::set>{});
  else
    body(Writing<Write::add>{});
}

/// place = value, or place += value.
template <Write how, class T>
inline void put(Writing<how>, T& place, float value) {
  if constexpr (how == Write::set)
    place = T(value);
  else
    place = T(float(place) + value);
}

/// The only number of a one-element tensor of any dtype.
inline double number_of(const In& scalar) {
  double number = 0;
  with_any(scalar.dtype, [&](auto type) {
    number = static_cast<double>(*static_cast<const decltype(type)*>(scalar.data));
  });
  return number;
}

}  // namespace accrue::cpu
