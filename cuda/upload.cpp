#include "accrue/cuda/upload.h"

#include <algorithm>
#include <mutex>
#include <vector>

#include "accrue/cuda/check.h"
#include "accrue/cuda/graph.h"
#include "accrue/cuda/runtime.h"

namespace accrue::cuda {
namespace {

/// Page-locked memory, which takes long to get: kept for the next upload.
struct Pinned {
  Handle<void*, cudaFreeHost> memory;
  size_t bytes = 0;
};

struct Shared {
  Stream stream;
  std::mutex mutex;
  std::vector<Pinned> free;

  Shared() {
    cuda::stream();  // sets the device up
    CUDA_CHECK(cudaStreamCreateWithFlags(stream.place(), cudaStreamNonBlocking));
  }
  Pinned take(size_t bytes) {
    {
      const std::lock_guard lock(mutex);
      const auto found =
          std::ranges::find_if(free, [&](const Pinned& one) { return one.bytes >= bytes; });
      if (found != free.end()) {
        Pinned taken = std::move(*found);
        free.erase(found);
        return taken;
      }
      free.clear();  // too small: batches have grown
    }
    Pinned made;
    CUDA_CHECK(cudaHostAlloc(made.memory.place(), bytes, cudaHostAllocDefault));
    made.bytes = bytes;
    return made;
  }
};

/// Never destroyed, as the device's stream.
Shared& shared() {
  static Shared* one = new Shared;
  return *one;
}

class OwnStream final : public Upload {
 public:
  OwnStream(void* device, size_t bytes)
      : device_(device), bytes_(bytes), pinned_(shared().take(bytes)) {
    for (Event* event : {&ready_, &done_})
      CUDA_CHECK(cudaEventCreateWithFlags(event->place(), cudaEventDisableTiming));
    // The allocator's blocks are in the order of this stream alone.
    CUDA_CHECK(cudaEventRecord(ready_.get(), stream()));
  }
  ~OwnStream() override {
    if (started_) cudaEventSynchronize(done_.get());
    cudaGetLastError();  // the next launch is not to be blamed for it
    try {
      const std::lock_guard lock(shared().mutex);
      shared().free.push_back(std::move(pinned_));
    } catch (...) {  // freed instead
    }
  }
  void* host() override { return pinned_.memory.get(); }
  void start() override {
    stream();  // binds this thread to the device
    const cudaStream_t own = shared().stream.get();
    CUDA_CHECK(cudaStreamWaitEvent(own, ready_.get(), 0));
    CUDA_CHECK(cudaMemcpyAsync(device_, host(), bytes_, cudaMemcpyHostToDevice, own));
    started_ = true;
    CUDA_CHECK(cudaEventRecord(done_.get(), own));
  }
  void finish() override { CUDA_CHECK(cudaStreamWaitEvent(stream(), done_.get(), 0)); }

 private:
  void* device_;
  size_t bytes_;
  Pinned pinned_;
  Event ready_, done_;
  bool started_ = false;
};

}  // namespace

std::unique_ptr<Upload> make_upload(void* device, size_t bytes) {
  refuse_in_graph("upload");
  return std::make_unique<OwnStream>(device, bytes);
}

}  // namespace accrue::cuda
