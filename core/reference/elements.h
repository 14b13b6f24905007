// Reads and writes single elements of any tensor as double: one source text for all dtypes.
#pragma once
#include <initializer_list>

#include "accrue/core/kernels.h"

namespace accrue::reference {

/// Where elements lie: by their indices, or by their row-major number.
class Layout {
 public:
  Layout(const Shape& shape, const Shape& strides)
      : shape_(shape), strides_(strides), dense_(strides == contiguous_strides(shape)) {}

  int64_t at(std::initializer_list<int64_t> indices) const {
    int64_t offset = 0, i = 0;
    for (int64_t index : indices) offset += index * strides_.dims[i++];
    return offset;
  }
  int64_t at(int64_t element) const {
    if (dense_) return element;
    int64_t offset = 0;
    for (int i = shape_.rank - 1; i >= 0; --i) {
      offset += element % shape_.dims[i] * strides_.dims[i];
      element /= shape_.dims[i];
    }
    return offset;
  }

 private:
  Shape shape_, strides_;
  bool dense_;
};

/// The number at this place.
inline double load(const void* data, int64_t offset, DType dtype) {
  switch (dtype) {
    case DType::f32:
      return static_cast<const float*>(data)[offset];
    case DType::f64:
      return static_cast<const double*>(data)[offset];
    case DType::bf16:
      return static_cast<const BFloat16*>(data)[offset];
    case DType::f16:
      return static_cast<const Float16*>(data)[offset];
    case DType::i32:
      return static_cast<const int32_t*>(data)[offset];
    case DType::i64:
      return static_cast<double>(static_cast<const int64_t*>(data)[offset]);
    case DType::u8:
      return static_cast<const uint8_t*>(data)[offset];
  }
  return 0;
}

/// Puts a number there, rounded to the dtype.
inline void store(void* data, int64_t offset, DType dtype, double value) {
  switch (dtype) {
    case DType::f32:
      static_cast<float*>(data)[offset] = static_cast<float>(value);
      break;
    case DType::f64:
      static_cast<double*>(data)[offset] = value;
      break;
    case DType::bf16:
      static_cast<BFloat16*>(data)[offset] = BFloat16(static_cast<float>(value));
      break;
    case DType::f16:
      static_cast<Float16*>(data)[offset] = Float16(static_cast<float>(value));
      break;
    case DType::i32:
      static_cast<int32_t*>(data)[offset] = static_cast<int32_t>(value);
      break;
    case DType::i64:
      static_cast<int64_t*>(data)[offset] = static_cast<int64_t>(value);
      break;
    case DType::u8:
      static_cast<uint8_t*>(data)[offset] = static_cast<uint8_t>(value);
      break;
  }
}

/// x(i, j) is the element at these indices, x[e] the row-major e-th.
class Reader {
 public:
  explicit Reader(const In& x) : data_(x.data), dtype_(x.dtype), layout_(x.shape, x.strides) {}

  template <class... Index>
  double operator()(Index... index) const {
    return load(data_, layout_.at({int64_t{index}...}), dtype_);
  }
  double operator[](int64_t element) const { return load(data_, layout_.at(element), dtype_); }

 private:
  const void* data_;
  DType dtype_;
  Layout layout_;
};

/// y.write({i, j}, value) sets the element at these indices, or adds to it; y.write(e, value) the
/// row-major e-th. A sum is rounded once.
class Writer {
 public:
  Writer(const Out& y, Write how)
      : data_(y.data), dtype_(y.dtype), layout_(y.shape, y.strides), how_(how) {}
  explicit Writer(const Deposit& deposit) : Writer(deposit.into, deposit.write) {}

  void write(std::initializer_list<int64_t> indices, double value) const {
    put(layout_.at(indices), value);
  }
  void write(int64_t element, double value) const { put(layout_.at(element), value); }

 private:
  void put(int64_t offset, double value) const {
    if (how_ == Write::add) value += load(data_, offset, dtype_);
    store(data_, offset, dtype_, value);
  }

  void* data_;
  DType dtype_;
  Layout layout_;
  Write how_;
};

/// `x` seen in a larger shape: the sizes that it broadcasts along get the stride 0.
template <class InOrOut>
InOrOut stretch(InOrOut x, const Shape& shape) {
  Shape strides = shape;
  for (int i = 1; i <= shape.rank; ++i) {
    const bool stretched = i > x.shape.rank || (x.shape[-i] == 1 && shape[-i] != 1);
    strides[-i] = stretched ? 0 : x.strides[-i];
  }
  x.shape = shape;
  x.strides = strides;
  return x;
}

/// The factor of element `e` of a sample in keyed dropout: 0, or 1/(1 − p).
inline double dropout_factor(const RandomKey& key, int64_t sample, int64_t e, double p) {
  if (p == 0) return 1;
  const bool kept = uniform01(key.draw(sample, e / 4)[e % 4]) >= p;
  return kept ? 1 / (1 - p) : 0;
}

}  // namespace accrue::reference
