// Dense loops, one register at a time. The last elements go through the same instructions, in a
// padded register: a result does not depend on where a range of elements begins or ends.
#pragma once
#include <algorithm>

#include "accrue/core/cpu/dispatch.h"

namespace accrue::cpu {

/// Moves whole registers; padded() is a number in all the elements that are moved.
struct Whole {
  template <class T>
  Floats load(const T* from) const {
    return cpu::load(from);
  }
  template <class T>
  void store(T* to, Floats values) const {
    cpu::store(to, values);
  }
  Floats padded(float value) const { return Floats{} + value; }
};

/// Moves the first `n` elements of a register; the others are zero.
struct Part {
  int64_t n;
  template <class T>
  Floats load(const T* from) const {
    T padded[lanes]{};
    std::copy_n(from, n, padded);
    return cpu::load(padded);
  }
  template <class T>
  void store(T* to, Floats values) const {
    T padded[lanes];
    cpu::store(padded, values);
    std::copy_n(padded, n, to);
  }
  Floats padded(float value) const {
    float values[lanes]{};
    std::fill_n(values, n, value);
    return cpu::load(values);
  }
};

/// body(i, mover) for every register of elements in [first, last).
template <class Body>
inline void by_register(int64_t first, int64_t last, const Body& body) {
  int64_t i = first;
  for (; i + lanes <= last; i += lanes) body(i, Whole{});
  if (i < last) body(i, Part{last - i});
}

/// place = values, or place += values.
template <Write how, class Mover, class T>
inline void put(Writing<how>, const Mover& mover, T* place, Floats values) {
  if constexpr (how == Write::add) values += mover.load(place);
  mover.store(place, values);
}

inline Floats all_of(float value) { return Floats{} + value; }

inline float sum_of_lanes(Floats values) {
  float sum = 0;
  for (int i = 0; i < lanes; ++i) sum += values[i];
  return sum;
}

}  // namespace accrue::cpu
