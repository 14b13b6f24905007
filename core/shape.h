// Sizes of a tensor's dimensions, without allocation.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>

#include "accrue/core/error.h"

namespace accrue {

struct Shape {
  static constexpr int max_rank = 6;
  std::array<int64_t, max_rank> dims{};
  int64_t rank = 0;  // as wide as a size: a copy then reads in the pieces that were stored

  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes) {
    require(sizes.size() <= max_rank, "[shape] expected at most ", max_rank, " dimensions, got ",
            sizes.size());
    for (int64_t size : sizes) dims[rank++] = size;
  }
  int64_t operator[](int i) const { return dims[i < 0 ? i + rank : i]; }
  int64_t& operator[](int i) { return dims[i < 0 ? i + rank : i]; }
  const int64_t* begin() const { return dims.data(); }
  const int64_t* end() const { return dims.data() + rank; }
  bool operator==(const Shape& other) const {
    return std::equal(begin(), end(), other.begin(), other.end());
  }
  /// Number of elements; 1 for a scalar.
  int64_t elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= dims[i];
    return n;
  }
  void push_back(int64_t size) {
    require(rank < max_rank, "[shape] expected at most ", max_rank, " dimensions, got one more");
    dims[rank++] = size;
  }
};

/// Row-major strides, in elements.
inline Shape contiguous_strides(const Shape& shape) {
  Shape strides;
  strides.rank = shape.rank;
  int64_t step = 1;
  for (int i = shape.rank - 1; i >= 0; --i) {
    strides.dims[i] = step;
    step *= shape.dims[i];
  }
  return strides;
}

/// The shape both broadcast to: sizes are aligned from the right; a size of 1 stretches.
/// Throws BadArgument, naming `operation` and both shapes, if they do not fit.
Shape broadcast(const char* operation, const Shape& a, const Shape& b);

inline std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  out << '[';
  for (int i = 0; i < shape.rank; ++i) out << (i ? ", " : "") << shape.dims[i];
  return out << ']';
}

}  // namespace accrue
