// Tensor: plain numbers with a shape, on a device. It knows nothing of gradients.
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "accrue/core/allocator.h"
#include "accrue/core/dtype.h"
#include "accrue/core/error.h"
#include "accrue/core/shape.h"

namespace accrue {

struct Backend;
class Packs;

/// Where tensors lie and which kernels work on them. Nothing registers itself: a device carries a
/// pointer to its backend.
struct Device {
  const Backend* backend = nullptr;

  static Device cpu();        // oneDNN and vectorised kernels; f32, bf16 and f16
  static Device reference();  // naive loops in any floating dtype, f64 included
  /// The first GPU. Throws Failure where accrue was built without CUDA, or no GPU can be used.
  static Device cuda();
  /// Whether cuda() would give one.
  static bool has_cuda();
  /// cuda() where there is one, else cpu().
  static Device best() { return has_cuda() ? cuda() : cpu(); }

  /// Whether the host can read and write the device's memory.
  bool on_host() const;
  /// Whether kernels of both work on the same memory.
  bool shares_memory(const Device&) const;
  bool operator==(const Device&) const = default;
};
std::ostream& operator<<(std::ostream&, const Device&);

/// What a kernel reads. `data` is null for an absent optional input.
struct In {
  const void* data = nullptr;
  Shape shape, strides;  // strides in elements
  DType dtype = DType::f32;
  Packs* packs = nullptr;  // set for a weight: layouts that its backend keeps for the cycle

  explicit operator bool() const { return shape.rank > 0; }
};

/// What a kernel writes.
struct Out {
  void* data = nullptr;
  Shape shape, strides;
  DType dtype = DType::f32;

  explicit operator bool() const { return shape.rank > 0; }
  operator In() const { return {data, shape, strides, dtype, nullptr}; }
};

/// Bounds of i32 numbers: of all, and of those below zero (0 where there are none).
struct IdRange {
  int32_t least, most, most_negative;
};

/// A block of memory, its tag and its owner. Frees itself.
struct Storage {
  Storage(Device device, size_t bytes, Tag tag);
  ~Storage();
  Storage(const Storage&) = delete;

  void* data = nullptr;  // null in a dry run
  size_t bytes;
  Device device;
  Tag tag;
  bool dry;
  std::unique_ptr<Packs> packs;  // only for weights
  // Of i32 that filled the block when they came from the host, which cannot read them there.
  std::optional<IdRange> uploaded;
};

/// Handle on shared storage: copying a Tensor copies the handle, never the numbers.
class Tensor {
 public:
  Tensor() = default;
  /// Uninitialised numbers. In Mode::shapes a shape without memory.
  Tensor(const Shape& shape, DType dtype, Device device);

  /// A tensor with these numbers, row-major.
  template <class T>
  static Tensor of(const Shape& shape, std::span<const T> values, Device device);
  static Tensor scalar(double value, DType dtype, Device device);

  const Shape& shape() const { return shape_; }
  const Shape& strides() const { return strides_; }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  int64_t elements() const { return shape_.elements(); }
  size_t bytes() const { return elements() * size_of(dtype_); }
  bool is_contiguous() const;
  explicit operator bool() const { return device_.backend != nullptr; }

  In in() const {
    // A part of a weight has no layouts of its own.
    const bool whole = storage_ && storage_->packs && bytes() == storage_->bytes;
    return {start(), shape_, strides_, dtype_, whole ? storage_->packs.get() : nullptr};
  }
  Out out() { return {start(), shape_, strides_, dtype_}; }

  /// Rows [first, first + count) of dimension 0. A view. Throws BadArgument if out of range.
  Tensor slice(int64_t first, int64_t count) const { return slice(0, first, count); }
  /// The same of any dimension.
  Tensor slice(int dimension, int64_t first, int64_t count) const;
  /// The same numbers in another shape; one size may be −1. A view; needs a contiguous tensor.
  Tensor reshape(Shape shape) const;
  /// A view with two dimensions exchanged.
  Tensor transpose(int a, int b) const;
  /// A view without a dimension of size 1.
  Tensor squeeze(int dimension) const;
  /// A view stretched to `shape` by strides of 0.
  Tensor expand(const Shape& shape) const;

  /// Row-major numbers, converted. Synchronises. Ones in a dry run, so that counts still divide.
  std::vector<double> to_vector() const;
  /// The number of a one-element tensor. Synchronises.
  double item() const;

  /// These numbers for kernels of `device`: a handle on the same memory where both devices share
  /// it, else a row-major copy, byte for byte; that synchronises.
  Tensor to(Device device) const;
  /// All bytes, row-major, to and from host memory, which may be reused on return. copy_to_host()
  /// synchronises. Nothing in a dry run.
  void copy_to_host(void* to) const;
  void copy_from_host(const void* from);

  /// Bounds of the i32 numbers that this tensor's memory was filled with from the host; nothing
  /// where the host can read them, or they came otherwise.
  std::optional<IdRange> uploaded() const { return storage_ ? storage_->uploaded : std::nullopt; }
  /// For numbers that an upload brings.
  void set_uploaded(IdRange range) { storage_->uploaded = range; }

  /// First element, for host code. Null where there is no memory (dry run, shapes). Throws
  /// BadArgument where the host cannot read it.
  template <class T>
  T* data() {
    return static_cast<T*>(address(dtype_of<T>));
  }
  template <class T>
  const T* data() const {
    return static_cast<const T*>(const_cast<Tensor*>(this)->address(dtype_of<T>));
  }

  /// How many handles share the storage; 0 where there is none.
  long sharers() const { return storage_.use_count(); }
  bool same_storage(const Tensor& other) const { return storage_ && storage_ == other.storage_; }
  /// Weights only: layouts the backend makes of this tensor are kept here until invalidated.
  Packs& keep_packs();

 private:
  void* address(DType expected);
  void* start() const {
    char* const base = storage_ ? static_cast<char*>(storage_->data) : nullptr;
    return base ? base + offset_ * static_cast<int64_t>(size_of(dtype_)) : nullptr;
  }

  std::shared_ptr<Storage> storage_;
  Shape shape_, strides_;
  int64_t offset_ = 0;
  DType dtype_ = DType::f32;
  Device device_;
};

/// The same shape, dtype and device; new memory, uninitialised.
Tensor empty_like(const Tensor&);

/// What a backend makes of a weight (a packed layout): kept for the cycle, made again when the
/// weight changes. The memory stays where it is. For one thread's products at a time.
class Packs {
 public:
  struct Entry {
    uint64_t layout;  // the backend's own name for it
    Tensor data;
    bool valid;
  };
  /// The entry of this layout; made with `bytes` of memory, tagged copies, if there is none yet.
  Entry& entry(uint64_t layout, size_t bytes, Device device);
  void invalidate() {
    for (Entry& entry : entries_) entry.valid = false;
  }

 private:
  std::vector<Entry> entries_;
};

template <class T>
Tensor Tensor::of(const Shape& shape, std::span<const T> values, Device device) {
  Tensor tensor(shape, dtype_of<T>, device);
  require(static_cast<int64_t>(values.size()) == shape.elements(), "[tensor] expected ",
          shape.elements(), " values for shape ", shape, ", got ", values.size());
  tensor.copy_from_host(values.data());
  return tensor;
}

}  // namespace accrue
