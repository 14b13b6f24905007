// The formulas of accumulators and averages, element by element, written once for all backends but
// the reference: for kernel::Map (core/kernels.h). `outs` come first, then `ins`.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>

#include "accrue/core/dtype.h"
#include "accrue/core/functors/host_device.h"

namespace accrue::fold {

struct Add {
  static constexpr int outs = 1, ins = 1;
  template <class T>
  ACCRUE_HD void operator()(T& sum, T a) const {
    sum += a;
  }
};
// Sums of neighbours in a binary tree: the order is part of the formula.
struct AddTwo {
  static constexpr int outs = 1, ins = 2;
  template <class T>
  ACCRUE_HD void operator()(T& sum, T a, T b) const {
    sum += a + b;
  }
};
struct AddThree {
  static constexpr int outs = 1, ins = 3;
  template <class T>
  ACCRUE_HD void operator()(T& sum, T a, T b, T c) const {
    sum += a + (b + c);
  }
};

/// The rounding error of each addition is carried into the next one.
struct Kahan {
  static constexpr int outs = 2, ins = 1;
  template <class T>
  ACCRUE_HD void operator()(T& sum, T& carry, T a) const {
    const T y = a - carry, t = sum + y;
    carry = (t - sum) - y;
    sum = t;
  }
};

/// An exponential moving average moves by `gain` of the way: equal numbers stay equal to the bit.
struct Average {
  static constexpr int outs = 1, ins = 1;
  double gain;
  template <class T>
  ACCRUE_HD void operator()(T& average, T a) const {
    average += static_cast<T>(gain) * (a - average);
  }
};

struct Swap {
  static constexpr int outs = 2, ins = 0;
  template <class T>
  ACCRUE_HD void operator()(T& a, T& b) const {
    const T c = a;
    a = b;
    b = c;
  }
};

/// x rounded to bf16: away from zero with the probability of what is cut off, out of 2¹⁶.
ACCRUE_HD inline BFloat16 round_stochastically(float x, uint32_t random16) {
  if (!std::isfinite(x)) return BFloat16(x);
  const uint32_t bits = std::bit_cast<uint32_t>(x) + random16;
  return std::bit_cast<BFloat16>(static_cast<uint16_t>(bits >> 16));
}

/// A term of a fixed-point sum; 0 for what is not finite.
ACCRUE_HD inline int64_t fixed_point_term(double x, double factor) {
  const double scaled = (std::isfinite(x) ? x : 0) * factor;
  const double bounded = scaled > 0x1p62 ? 0x1p62 : scaled < -0x1p62 ? -0x1p62 : scaled;
  return static_cast<int64_t>(std::nearbyint(bounded));
}

}  // namespace accrue::fold
