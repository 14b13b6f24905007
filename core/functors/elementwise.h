// Activation functions and their slopes, written once for scalars and registers. `Math` gives
// exp(V) and tanh(V), as exact or as fast as its backend wants them.
#pragma once
#include <cmath>
#include <type_traits>

#include "accrue/core/functors/host_device.h"

namespace accrue::functor {

/// The C library's functions: for GPUs and tests.
struct ExactMath {
  template <class T>
  ACCRUE_HD static T exp(T x) {
    return std::exp(x);
  }
  template <class T>
  ACCRUE_HD static T tanh(T x) {
    return std::tanh(x);
  }
};

/// Scalars that go with a V, which is float, double, or a register of floats.
template <class V>
using scalar_of = std::conditional_t<std::is_same_v<V, double>, double, float>;

/// sigmoid(x) and 1 − sigmoid(x), both without cancellation.
template <class Math, class V>
struct Sigmoid {
  V value, rest;
  [[gnu::always_inline]] ACCRUE_HD explicit Sigmoid(V x) {
    const V e = Math::exp(x < -80.0f ? V{} + 80.0f : -x);  // finite: rest would be inf·0
    value = 1.0f / (1.0f + e);
    rest = e * value;
  }
};
/// GPT-2's x/2·(1 + tanh u), u = √(2/π)·(x + 0.044715·x³), is x·sigmoid(2u): the same number,
/// without the cancellation where x is negative.
template <class Math>
struct Gelu {
  template <class V>
  static constexpr scalar_of<V> linear = static_cast<scalar_of<V>>(1.5957691216057307117597842397);
  template <class V>
  static constexpr scalar_of<V> cubic = linear<V>* static_cast<scalar_of<V>>(0.044715);

  template <class V>
  [[gnu::always_inline]] ACCRUE_HD static V value(V x) {
    return x * Sigmoid<Math, V>(x * (linear<V> + cubic<V> * (x * x))).value;
  }
  template <class V>
  [[gnu::always_inline]] ACCRUE_HD static V slope(V x) {
    const V squared = x * x;
    const Sigmoid<Math, V> s(x * (linear<V> + cubic<V> * squared));
    return s.value + x * s.value * s.rest * (linear<V> + 3 * cubic<V> * squared);
  }
};

/// x·sigmoid(x).
template <class Math>
struct Silu {
  template <class V>
  [[gnu::always_inline]] ACCRUE_HD static V value(V x) {
    return x * Sigmoid<Math, V>(x).value;
  }
  template <class V>
  [[gnu::always_inline]] ACCRUE_HD static V slope(V x) {
    const Sigmoid<Math, V> s(x);
    return s.value * (1.0f + x * s.rest);
  }
};

struct Relu {
  template <class V>
  [[gnu::always_inline]] ACCRUE_HD static V value(V x) {
    return x < 0.0f ? V{} : x;  // a NaN stays
  }
  template <class V>
  [[gnu::always_inline]] ACCRUE_HD static V slope(V x) {
    return x > 0.0f ? V{} + 1.0f : V{};
  }
};

template <class Math>
struct Tanh {
  template <class V>
  [[gnu::always_inline]] ACCRUE_HD static V value(V x) {
    return Math::tanh(x);
  }
  template <class V>
  [[gnu::always_inline]] ACCRUE_HD static V slope(V x) {
    const V y = Math::tanh(x);
    return 1.0f - y * y;
  }
};

}  // namespace accrue::functor
