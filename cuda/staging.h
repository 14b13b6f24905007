// Page-locked memory between the host and the device: copies run beside the host's own work.
#pragma once
#include <array>
#include <cstddef>
#include <mutex>

#include "accrue/cuda/check.h"
#include "accrue/cuda/staging_ring.h"

namespace accrue::cuda {

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
