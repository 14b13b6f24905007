// Tensors between the host's memory and a device's, byte for byte: the copy kernel converts
// numbers, and large i64 must not pass through an f64.
#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "accrue/core/kernels.h"

namespace accrue {
namespace {

struct Strided {
  std::byte* data;
  Shape strides;  // in elements
};

void copy_elements(Strided to, Strided from, const Shape& shape, size_t element_bytes,
                   int dimension = 0) {
  if (dimension == shape.rank) {
    std::memcpy(to.data, from.data, element_bytes);
    return;
  }
  for (int64_t i = 0; i < shape[dimension]; ++i) {
    copy_elements(to, from, shape, element_bytes, dimension + 1);
    to.data += to.strides[dimension] * static_cast<int64_t>(element_bytes);
    from.data += from.strides[dimension] * static_cast<int64_t>(element_bytes);
  }
}

/// From a view's first element to behind its last one; what lies between them belongs to others.
size_t span_of(const Tensor& tensor) {
  int64_t last = 0;
  for (int i = 0; i < tensor.shape().rank; ++i)
    last += (tensor.shape()[i] - 1) * tensor.strides()[i];
  return static_cast<size_t>(last + 1) * size_of(tensor.dtype());
}

std::vector<std::byte> fetched(const Tensor& tensor, size_t bytes) {
  std::vector<std::byte> host(bytes);
  tensor.device().backend->to_host(host.data(), tensor.in().data, bytes);
  return host;
}

IdRange range_of(const int32_t* ids, int64_t count) {
  IdRange range{ids[0], ids[0], 0};
  for (const int32_t id : std::span(ids, static_cast<size_t>(count))) {
    range.least = std::min(range.least, id);
    range.most = std::max(range.most, id);
    if (id < 0)
      range.most_negative = range.most_negative < 0 ? std::max(range.most_negative, id) : id;
  }
  return range;
}

std::byte* bytes_at(const void* data) {
  return static_cast<std::byte*>(const_cast<void*>(data));  // Strided serves both directions
}

}  // namespace

void Tensor::copy_to_host(void* to) const {
  const void* from = in().data;
  if (!from || elements() == 0) return;
  const Strided dense{bytes_at(to), contiguous_strides(shape_)};
  if (is_contiguous() && device_.on_host()) {
    std::memcpy(to, from, bytes());
  } else if (is_contiguous()) {
    device_.backend->to_host(to, from, bytes());
  } else if (device_.on_host()) {
    copy_elements(dense, {bytes_at(from), strides_}, shape_, size_of(dtype_));
  } else {
    std::vector<std::byte> all = fetched(*this, span_of(*this));
    copy_elements(dense, {all.data(), strides_}, shape_, size_of(dtype_));
  }
}

void Tensor::copy_from_host(const void* from) {
  void* to = out().data;
  if (!to || elements() == 0) return;
  const Strided dense{bytes_at(from), contiguous_strides(shape_)};
  const bool fills = dtype_ == DType::i32 && bytes() == storage_->bytes;
  storage_->uploaded.reset();
  if (fills && !device_.on_host())
    storage_->uploaded = range_of(static_cast<const int32_t*>(from), elements());
  if (is_contiguous() && device_.on_host()) {
    std::memcpy(to, from, bytes());
  } else if (is_contiguous()) {
    device_.backend->from_host(to, from, bytes());
  } else if (device_.on_host()) {
    copy_elements({bytes_at(to), strides_}, dense, shape_, size_of(dtype_));
  } else {
    std::vector<std::byte> all = fetched(*this, span_of(*this));
    copy_elements({all.data(), strides_}, dense, shape_, size_of(dtype_));
    device_.backend->from_host(to, all.data(), all.size());
  }
}

Tensor Tensor::to(Device device) const {
  require(device.backend && device_.backend, "[to] expected two devices, got ", device_, " and ",
          device);
  if (device_.shares_memory(device)) {
    Tensor same = *this;
    same.device_ = device;
    return same;
  }
  Tensor copy(shape_, dtype_, device);
  if (!in().data) return copy;  // a dry run
  if (device.on_host()) {
    copy_to_host(copy.out().data);
  } else {
    std::vector<std::byte> host(bytes());
    copy_to_host(host.data());
    copy.copy_from_host(host.data());
  }
  return copy;
}

}  // namespace accrue
