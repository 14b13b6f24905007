#include "accrue/core/tensor.h"

#include "accrue/core/kernels.h"
#include "accrue/core/mode.h"

namespace accrue {
namespace {

thread_local Mode mode_now = Mode::run;

}  // namespace

Mode current_mode() { return mode_now; }
ModeScope::ModeScope(Mode mode) : before_(mode_now) { mode_now = mode; }
ModeScope::~ModeScope() { mode_now = before_; }

std::ostream& operator<<(std::ostream& out, const Device& device) {
  return out << (device.backend ? device.backend->name : "no device");
}

Shape broadcast(const char* operation, const Shape& a, const Shape& b) {
  Shape result;
  result.rank = std::max(a.rank, b.rank);
  for (int i = 1; i <= result.rank; ++i) {
    const int64_t x = i <= a.rank ? a[-i] : 1, y = i <= b.rank ? b[-i] : 1;
    require(x == y || x == 1 || y == 1, "[", operation, "] expected shapes that broadcast, got ", a,
            " and ", b, "; sizes aligned from the right must be equal or 1");
    result[-i] = x == 1 ? y : x;
  }
  return result;
}

bool Device::on_host() const { return backend->memory == &host_allocator(); }
bool Device::shares_memory(const Device& other) const {
  return backend->memory == other.backend->memory;
}

Storage::Storage(Device device_, size_t bytes_, Tag tag_)
    : bytes(bytes_), device(device_), tag(tag_), dry(current_mode() != Mode::run) {
  data = device.backend->memory->allocate(bytes, tag, dry);
}

Storage::~Storage() { device.backend->memory->release(data, bytes, tag, dry); }

namespace {

const Shape& checked(const Shape& shape) {
  double elements = 1;  // neither overflows nor divides; exact where it matters
  for (int64_t size : shape) {
    require(size >= 0, "[tensor] expected sizes of at least 0, got shape ", shape);
    elements *= static_cast<double>(std::max<int64_t>(size, 1));
  }
  require(elements <= 0x1p48, "[tensor] expected at most 2^48 elements, got shape ", shape);
  return shape;
}

}  // namespace

Tensor::Tensor(const Shape& shape, DType dtype, Device device)
    : shape_(checked(shape)), strides_(contiguous_strides(shape)), dtype_(dtype), device_(device) {
  require(device.backend, "[tensor] expected a device, got none; try Device::cpu()");
  if (current_mode() != Mode::shapes)
    storage_ = std::make_shared<Storage>(device, bytes(), current_tag());
}

Tensor Tensor::scalar(double value, DType dtype, Device device) {
  Tensor tensor({1}, dtype, device);
  launch(device, kernel::Fill{tensor.out(), value});
  return tensor;
}

bool Tensor::is_contiguous() const {
  int64_t step = 1;
  for (int i = shape_.rank - 1; i >= 0; --i) {
    if (shape_.dims[i] != 1 && strides_.dims[i] != step) return false;
    step *= shape_.dims[i];
  }
  return true;
}

void* Tensor::address(DType expected) {
  require(dtype_ == expected, "[tensor] expected dtype ", dtype_, " for its data, got ", expected,
          "; try to_vector()");
  require(!*this || device_.on_host(), "[tensor] expected memory that the host can read, got ",
          device_, "; try to_vector(), or to(Device::cpu())");
  return start();
}

Tensor Tensor::slice(int dimension, int64_t first, int64_t count) const {
  if (dimension < 0) dimension += shape_.rank;
  require(dimension >= 0 && dimension < shape_.rank && first >= 0 && count >= 0 &&
              first + count <= shape_[dimension],
          "[slice] expected a range inside dimension ", dimension, " of ", shape_, ", got first ",
          first, ", count ", count);
  Tensor view = *this;
  view.offset_ += first * strides_[dimension];
  view.shape_[dimension] = count;
  return view;
}

Tensor Tensor::reshape(Shape shape) const {
  int64_t known = 1;
  int open = -1;
  for (int i = 0; i < shape.rank; ++i) {
    const int64_t size = shape.dims[i];
    require(size >= 0 || (size == -1 && open < 0),
            "[reshape] expected sizes of at least 0 and at most one of −1, got ", shape);
    if (size < 0)
      open = i;
    else
      known *= size;
  }
  require(open < 0 || known > 0, "[reshape] expected sizes above 0 beside −1, got ", shape);
  if (open >= 0) shape[open] = elements() / known;
  require(shape.elements() == elements(), "[reshape] expected ", elements(), " elements, as in ",
          shape_, ", got shape ", shape);
  require(is_contiguous(), "[reshape] expected a contiguous tensor, got strides ", strides_,
          "; try a copy");
  Tensor view = *this;
  view.shape_ = shape;
  view.strides_ = contiguous_strides(shape);
  return view;
}

Tensor Tensor::transpose(int a, int b) const {
  if (a < 0) a += shape_.rank;
  if (b < 0) b += shape_.rank;
  require(a >= 0 && b >= 0 && a < shape_.rank && b < shape_.rank,
          "[transpose] expected dimensions of ", shape_, ", got ", a, " and ", b);
  Tensor view = *this;
  std::swap(view.shape_[a], view.shape_[b]);
  std::swap(view.strides_[a], view.strides_[b]);
  return view;
}

Tensor Tensor::squeeze(int dimension) const {
  if (dimension < 0) dimension += shape_.rank;
  require(dimension >= 0 && dimension < shape_.rank && shape_[dimension] == 1,
          "[squeeze] expected size 1 in dimension ", dimension, ", got ", shape_);
  Tensor view = *this;
  for (Shape* sizes : {&view.shape_, &view.strides_}) {
    std::copy(sizes->begin() + dimension + 1, sizes->end(), sizes->dims.begin() + dimension);
    --sizes->rank;
  }
  return view;
}

Tensor Tensor::expand(const Shape& shape) const {
  require(broadcast("expand", shape_, shape) == shape, "[expand] expected a shape that ", shape_,
          " stretches to, got ", shape);
  Tensor view = *this;
  view.shape_ = shape;
  view.strides_.rank = shape.rank;
  for (int i = 1; i <= shape.rank; ++i)
    view.strides_[-i] = i <= shape_.rank && shape_[-i] == shape[-i] ? strides_[-i] : 0;
  return view;
}

std::vector<double> Tensor::to_vector() const {
  std::vector<double> numbers(elements(), 1.0);
  if (!in().data) return numbers;
  if (device_.on_host()) {
    const Out to{numbers.data(), shape_, contiguous_strides(shape_), DType::f64};
    launch(device_, kernel::Copy{in(), to, Write::set});
  } else {
    const TagScope tag(Tag::workspace);
    Tensor wide(shape_, DType::f64, device_);
    launch(device_, kernel::Copy{in(), wide.out(), Write::set});
    wide.copy_to_host(numbers.data());
  }
  return numbers;
}

double Tensor::item() const {
  require(elements() == 1, "[item] expected one element, got shape ", shape_);
  return to_vector()[0];
}

Packs& Tensor::keep_packs() {
  require(storage_ != nullptr, "[packs] expected a tensor with memory, got an empty one");
  if (!storage_->packs) storage_->packs = std::make_unique<Packs>();
  return *storage_->packs;
}

Tensor empty_like(const Tensor& other) { return {other.shape(), other.dtype(), other.device()}; }

Packs::Entry& Packs::entry(uint64_t layout, size_t bytes, Device device) {
  // What a dry run made has no memory.
  std::erase_if(entries_, [&](const Entry& entry) {
    return entry.layout == layout && current_mode() == Mode::run && !entry.data.in().data;
  });
  for (Entry& entry : entries_)
    if (entry.layout == layout) return entry;
  const TagScope tag(Tag::copies);
  entries_.push_back({layout, Tensor({static_cast<int64_t>(bytes)}, DType::u8, device), false});
  return entries_.back();
}

}  // namespace accrue
