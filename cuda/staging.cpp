// Copies between pageable host memory and the device, in pieces by way of page-locked memory.
#include "accrue/cuda/staging.h"

#include <algorithm>
#include <cstring>

namespace accrue::cuda {

void Staging::Direction::prepare() {
  if (memory.get()) return;
  for (Event& event : done)
    if (!event.get()) CUDA_CHECK(cudaEventCreateWithFlags(event.place(), cudaEventDisableTiming));
  CUDA_CHECK(cudaHostAlloc(memory.place(), segments * segment_bytes, cudaHostAllocDefault));
}

void Staging::from_host(void* device, const void* host, size_t bytes) {
  const std::lock_guard lock(up_.mutex);
  up_.prepare();
  StagingRing& ring = up_.ring;
  for (size_t at = 0; at < bytes;) {
    if (ring.room() == 0) {
      CUDA_CHECK(cudaEventRecord(up_.done[ring.current].get(), stream_));
      ring.next();
      CUDA_CHECK(cudaEventSynchronize(up_.done[ring.current].get()));  // at once if never recorded
    }
    const size_t count = std::min(bytes - at, ring.room());
    std::memcpy(up_.place(), static_cast<const char*>(host) + at, count);
    CUDA_CHECK(cudaMemcpyAsync(static_cast<char*>(device) + at, up_.place(), count,
                               cudaMemcpyHostToDevice, stream_));
    ring.take(count);
    at += count;
  }
}

void Staging::to_host(void* host, const void* device, size_t bytes) {
  const std::lock_guard lock(down_.mutex);
  down_.prepare();
  // Piece i lies in segment i % segments; the device is up to `segments` pieces ahead of the host.
  const size_t pieces = (bytes + segment_bytes - 1) / segment_bytes;
  char* pinned = static_cast<char*>(down_.memory.get());
  const auto count = [&](size_t piece) {
    return std::min(segment_bytes, bytes - piece * segment_bytes);
  };
  for (size_t asked = 0, taken = 0; taken < pieces; ++taken) {
    for (; asked < std::min(taken + segments, pieces); ++asked) {
      const size_t segment = asked % segments;
      CUDA_CHECK(cudaMemcpyAsync(pinned + segment * segment_bytes,
                                 static_cast<const char*>(device) + asked * segment_bytes,
                                 count(asked), cudaMemcpyDeviceToHost, stream_));
      CUDA_CHECK(cudaEventRecord(down_.done[segment].get(), stream_));
    }
    const size_t segment = taken % segments;
    CUDA_CHECK(cudaEventSynchronize(down_.done[segment].get()));
    std::memcpy(static_cast<char*>(host) + taken * segment_bytes, pinned + segment * segment_bytes,
                count(taken));
  }
}

}  // namespace accrue::cuda
