// Views of what kernels read and write: matrices of rows, and parts.
#pragma once
#include "accrue/core/tensor.h"

namespace accrue {

/// A contiguous In or Out as a matrix of its last dimension's rows.
template <class View>
View rows(const View& view) {
  const int64_t width = view.shape[-1];
  View flat;  // filled in place: copying a Shape that was just made waits for its stores
  flat.data = view.data;
  flat.shape.push_back(width ? view.shape.elements() / width : 0);
  flat.shape.push_back(width);
  flat.strides.push_back(width);
  flat.strides.push_back(1);
  flat.dtype = view.dtype;
  if constexpr (requires { view.packs; }) flat.packs = view.packs;
  return flat;
}

/// A matrix with its dimensions exchanged.
inline auto transposed(auto x) {
  std::swap(x.shape[0], x.shape[1]);
  std::swap(x.strides[0], x.strides[1]);
  return x;
}

/// Entries [first, first + count) of dimension 0.
inline Out part(Out out, int64_t first, int64_t count) {
  out.shape[0] = count;
  if (out.data)
    out.data = static_cast<char*>(out.data) + first * out.strides[0] * size_of(out.dtype);
  return out;
}

}  // namespace accrue
