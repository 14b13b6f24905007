// Page-locked memory between the host and the device: copies run beside the host's own work.
#pragma once
#include <array>
#include <cstddef>
#include <mutex>

#include "accrue/cuda/check.h"

namespace accrue::cuda {

/// A ring of segments. Bytes are put into the current one until it is full; it is used again only
/// when the device has done with it. Plain arithmetic, apart from memory and events.
struct StagingRing {
  size_t segment_bytes, segments;
  size_t current = 0, used = 0;

  static constexpr size_t alignment = 256;
  /// Room in the current segment for what starts now.
  size_t room() const { return segment_bytes - used; }
  size_t offset() const { return current * segment_bytes + used; }
  void take(size_t bytes) {
    used += (bytes + alignment - 1) / alignment * alignment;
    if (used > segment_bytes) used = segment_bytes;
  }
  void next() {
    current = (current + 1) % segments;
    used = 0;
  }
};

/// Copies of both directions on one stream. Thread-safe.
class Staging {
 public:
  explicit Staging(cudaStream_t stream) : stream_(stream) {}

  void to_host(void* host, const void* device, size_t bytes);
  void from_host(void* device, const void* host, size_t bytes);

 private:
  static constexpr size_t segments = 8, segment_bytes = size_t{4} << 20;

  /// Page-locked memory of one direction, made when it is first needed.
  struct Direction {
    StagingRing ring{segment_bytes, segments};
    Handle<void*, cudaFreeHost> memory;
    std::array<Event, segments> done;
    std::mutex mutex;

    void prepare();
    char* place() const { return static_cast<char*>(memory.get()) + ring.offset(); }
  };

  cudaStream_t stream_;
  Direction up_, down_;
};

}  // namespace accrue::cuda
