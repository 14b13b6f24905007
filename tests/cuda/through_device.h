// A kernel of the CUDA backend for tensors in the host's memory: they travel there and back, so
// that the table of kernel cases runs on a device as it is.
#pragma once
#include <algorithm>
#include <vector>

#include "accrue/core/kernels.h"

namespace accrue::test {

/// The host's bytes that some tensors lie in, copied to the device. Tensors of one block share one.
class DeviceCopies {
 public:
  DeviceCopies() : backend_(*Device::cuda().backend) {}

  template <class InOrOut>
  void add(const InOrOut& x) {
    if (!x.data || x.shape.elements() == 0) return;
    int64_t last = 0;
    for (int i = 0; i < x.shape.rank; ++i) last += (x.shape.dims[i] - 1) * x.strides.dims[i];
    const auto begin = reinterpret_cast<uintptr_t>(x.data);
    ranges_.push_back({begin, begin + (last + 1) * size_of(x.dtype), {}, 0});
  }
  /// After the last add(): copies there. Places keep their alignment to 256 bytes.
  void upload() {
    std::sort(ranges_.begin(), ranges_.end(),
              [](const Range& a, const Range& b) { return a.begin < b.begin; });
    std::vector<Range> merged;
    for (Range& range : ranges_)
      if (!merged.empty() && range.begin <= merged.back().end)
        merged.back().end = std::max(merged.back().end, range.end);
      else
        merged.push_back(std::move(range));
    ranges_ = std::move(merged);
    for (Range& range : ranges_) {
      const auto shift = static_cast<int64_t>(range.begin % 256);
      const auto bytes = static_cast<int64_t>(range.end - range.begin);
      range.memory = Tensor({shift + bytes}, DType::u8, Device::cuda());
      range.place = reinterpret_cast<uintptr_t>(range.memory.in().data) + shift;
      backend_.from_host(reinterpret_cast<void*>(range.place),
                         reinterpret_cast<const void*>(range.begin), bytes);
    }
  }
  template <class InOrOut>
  void move(InOrOut& x) const {
    const auto begin = reinterpret_cast<uintptr_t>(x.data);
    for (const Range& range : ranges_)
      if (x.data && begin >= range.begin && begin < range.end)
        x.data = reinterpret_cast<decltype(x.data)>(range.place + (begin - range.begin));
  }
  void download() const {
    for (const Range& range : ranges_)
      backend_.to_host(reinterpret_cast<void*>(range.begin),
                       reinterpret_cast<const void*>(range.place), range.end - range.begin);
  }

 private:
  struct Range {
    uintptr_t begin, end;
    Tensor memory;
    uintptr_t place;
  };
  const Backend& backend_;
  std::vector<Range> ranges_;
};

/// Calls act(tensor) for each tensor of the arguments.
template <class Act>
void for_tensors(kernel::Matmul& args, const Act& act) {
  act(args.a), act(args.b), act(args.c), act(args.bias);
}
template <class Act>
void for_tensors(kernel::MatmulUnary& args, const Act& act) {
  act(args.a), act(args.b), act(args.bias), act(args.z), act(args.y);
}
template <class Act>
void for_tensors(kernel::MatmulUnaryBackward& args, const Act& act) {
  act(args.a), act(args.b), act(args.z), act(args.dz), act(args.y);
}
template <class Act>
void for_tensors(kernel::Attention& args, const Act& act) {
  act(args.q), act(args.k), act(args.v), act(args.y), act(args.logsum), act(args.samples);
}
template <class Act>
void for_tensors(kernel::AttentionBackward& args, const Act& act) {
  act(args.q), act(args.k), act(args.v), act(args.y), act(args.logsum), act(args.dy);
  act(args.dq), act(args.dk), act(args.dv), act(args.samples);
}

/// Kernel::run of a backend of the host.
template <class Args>
void through_device(const Args& args, void*) {
  Args there = args;
  DeviceCopies copies;
  for_tensors(there, [&](auto& x) { copies.add(x); });
  copies.upload();
  for_tensors(there, [&](auto& x) { copies.move(x); });
  launch(Device::cuda(), there);
  copies.download();
}

}  // namespace accrue::test
