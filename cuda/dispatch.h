// From values known at run time to types known at compile time, once per call.
#pragma once
#include <type_traits>

#include "accrue/core/kernels.h"

namespace accrue::cuda {

/// body(T{}) for the T of a floating dtype.
template <class Body>
void with_float(DType type, const Body& body) {
  switch (type) {
    case DType::f64:
      return body(double{});
    case DType::bf16:
      return body(BFloat16{});
    case DType::f16:
      return body(Float16{});
    default:
      return body(float{});
  }
}

/// body(std::bool_constant<…>).
template <class Body>
void with_bool(bool value, const Body& body) {
  value ? body(std::true_type{}) : body(std::false_type{});
}

}  // namespace accrue::cuda
