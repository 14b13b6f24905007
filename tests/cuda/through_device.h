// A device's kernels for tensors in the host's memory: they travel there and back, so that the
// table of kernel cases runs on a device as it is.
#pragma once
#include <algorithm>
#include <vector>

#include "cuda/tensors_of.h"

namespace accrue::test {

/// The host's bytes that some tensors lie in, copied to the device between two guards. Tensors of
/// one block share one.
class DeviceCopies {
 public:
  explicit DeviceCopies(Device device) : device_(device) {}

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
    merge();
    for (Range& range : ranges_) {
      const size_t bytes = range.end - range.begin;
      range.before = guard + range.begin % guard;
      std::vector<uint8_t> all(range.before + bytes + guard, pattern);
      std::copy_n(reinterpret_cast<const uint8_t*>(range.begin), bytes, &all[range.before]);
      range.memory = Tensor::of<uint8_t>({static_cast<int64_t>(all.size())}, all, device_);
    }
  }
  template <class InOrOut>
  void move(InOrOut& x) const {
    const auto begin = reinterpret_cast<uintptr_t>(x.data);
    for (const Range& range : ranges_)
      if (x.data && begin >= range.begin && begin < range.end)
        x.data =
            reinterpret_cast<decltype(x.data)>(reinterpret_cast<uintptr_t>(range.memory.in().data) +
                                               range.before + (begin - range.begin));
  }
  /// Throws Failure where a kernel has written beside its places.
  void download() const {
    for (const Range& range : ranges_) {
      const size_t bytes = range.end - range.begin;
      std::vector<uint8_t> all(range.before + bytes + guard);
      range.memory.copy_to_host(all.data());
      const auto data = all.begin() + static_cast<int64_t>(range.before);
      const auto end = data + static_cast<int64_t>(bytes);
      const auto is_intact = [](uint8_t byte) { return byte == pattern; };
      if (!std::all_of(all.begin(), data, is_intact) || !std::all_of(end, all.end(), is_intact))
        throw Failure(
            "[through_device] expected a kernel to write in its places, got one that "
            "writes beside them");
      std::copy(data, end, reinterpret_cast<uint8_t*>(range.begin));
    }
  }

 private:
  static constexpr size_t guard = 256;
  static constexpr uint8_t pattern = 0xa5;
  struct Range {
    uintptr_t begin, end;
    Tensor memory;
    size_t before;  // bytes of memory in front of the data
  };

  void merge() {
    std::sort(ranges_.begin(), ranges_.end(),
              [](const Range& a, const Range& b) { return a.begin < b.begin; });
    std::vector<Range> merged;
    for (Range& range : ranges_)
      if (!merged.empty() && range.begin <= merged.back().end)
        merged.back().end = std::max(merged.back().end, range.end);
      else
        merged.push_back(std::move(range));
    ranges_ = std::move(merged);
  }

  Device device_;
  std::vector<Range> ranges_;
};

/// Kernel::run of a backend of the host.
template <Device (*device)(), class Args>
void through_device(const Args& args, void*) {
  Own<Args> there(args);
  DeviceCopies copies(device());
  there.for_each([&](auto& x) { copies.add(x); });
  copies.upload();
  there.for_each([&](auto& x) { copies.move(x); });
  launch(device(), there.args);
  copies.download();
}

template <Device (*device)(), class... Args>
std::tuple<Kernel<Args>...> kernels_through(const std::tuple<Kernel<Args>...>&) {
  return {Kernel<Args>{nullptr, through_device<device, Args>}...};
}

/// The host's memory with all kernels of the device.
template <Device (*device)()>
Device through() {
  static const Backend backend = [] {
    Backend result = *Device::reference().backend;
    result.name = device().backend->name;
    result.kernels = kernels_through<device>(result.kernels);
    return result;
  }();
  return {&backend};
}

}  // namespace accrue::test
