// Where the next bytes lie in a ring of page-locked memory. Plain C++, so that tests run it without
// a GPU.
#pragma once
#include <algorithm>
#include <cstddef>

namespace accrue::cuda {

/// A ring of segments. Bytes are put into the current one until it is full; it is used again only
/// when the device has done with it.
struct StagingRing {
  static constexpr size_t alignment = 256;

  size_t segment_bytes, segments;
  size_t current = 0, used = 0;

  /// Left in the current segment.
  size_t room() const { return segment_bytes - used; }
  size_t offset() const { return current * segment_bytes + used; }
  void take(size_t bytes) {
    used = std::min(segment_bytes, used + (bytes + alignment - 1) / alignment * alignment);
  }
  void next() {
    current = (current + 1) % segments;
    used = 0;
  }
};

}  // namespace accrue::cuda
