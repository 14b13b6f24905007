#include "cuda_runtime/fake_gpu.h"

#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "accrue/cuda/probe.h"

FakeGpu gpu;

using Work = std::function<void()>;
struct FakeStream {
  std::deque<Work> work;
};
/// Lives on after its event while work refers to it, as on a device.
struct Records {
  FakeStream* stream = nullptr;
  int made = 0, done = 0;
};
struct FakeEvent {
  std::shared_ptr<Records> records = std::make_shared<Records>();
};

namespace {

std::vector<FakeStream*> streams;
std::map<void*, size_t> blocks;

cudaError_t report(cudaError_t code) {
  if (code != cudaSuccess) gpu.last = code;
  return code;
}

/// Runs `body` unless the call is to fail.
template <class F>
cudaError_t call(const char* name, const F& body) {
  ++gpu.calls[name];
  if (gpu.lost != cudaSuccess) return report(gpu.lost);
  if (gpu.failing == name) {
    gpu.failing.clear();
    return report(gpu.with);
  }
  body();
  return cudaSuccess;
}

void step(FakeStream& stream) {
  const Work first = std::move(stream.work.front());
  stream.work.pop_front();
  first();
}
void finish(FakeStream& stream) {
  while (!stream.work.empty()) step(stream);
}
void enqueue(FakeStream* stream, Work work) {
  stream->work.push_back(std::move(work));
  if (gpu.eager) finish(*stream);
}
void reach(const Records& records, int made) {
  while (records.done < made) step(*records.stream);
}

struct Named {
  cudaError_t code;
  const char *name, *description;
};
constexpr Named names[] = {
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorDevicesUnavailable, "cudaErrorDevicesUnavailable", "device(s) is/are busy"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "illegal memory access"},
    {cudaErrorSystemNotReady, "cudaErrorSystemNotReady", "system not yet initialized"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated", "capture failed"}};
const Named& named(cudaError_t code) {
  static constexpr Named other{cudaSuccess, "unnamed", "undescribed"};
  for (const Named& one : names)
    if (one.code == code) return one;
  return other;
}

}  // namespace

size_t pending() {
  size_t count = 0;
  for (const FakeStream* stream : streams) count += stream->work.size();
  return count;
}
void finish_all() {
  for (size_t i = streams.size(); i-- > 0;) finish(*streams[i]);
}

cudaError_t cudaGetLastError() {
  const cudaError_t last = gpu.last;
  gpu.last = gpu.lost;
  return last;
}
const char* cudaGetErrorName(cudaError_t code) { return named(code).name; }
const char* cudaGetErrorString(cudaError_t code) { return named(code).description; }

cudaError_t cudaDriverGetVersion(int* version) {
  return call(__func__, [&] { *version = gpu.driver; });
}
cudaError_t cudaGetDeviceCount(int* count) {
  if (gpu.driver < CUDART_VERSION) return report(cudaErrorInsufficientDriver);
  if (gpu.devices == 0) return report(cudaErrorNoDevice);
  return call(__func__, [&] { *count = gpu.devices; });
}
cudaError_t cudaGetDevice(int* ordinal) {
  return call(__func__, [&] { *ordinal = gpu.ordinal; });
}
cudaError_t cudaSetDevice(int) {
  return call(__func__, [] {});
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* found, int) {
  return call(__func__, [&] {
    *found = {"Fake GPU", gpu.major, gpu.minor, 4, 1 << 20, gpu.memory, 1 << 16};
  });
}

cudaError_t cudaMalloc(void** block, size_t bytes) {
  if (gpu.used + bytes > gpu.memory && gpu.lost == cudaSuccess) {
    ++gpu.calls[__func__];
    return report(cudaErrorMemoryAllocation);
  }
  return call(__func__, [&] {
    blocks[*block = std::malloc(bytes)] = bytes;
    gpu.used += bytes;
  });
}
cudaError_t cudaFree(void* block) {
  finish_all();
  gpu.used -= blocks.at(block);
  blocks.erase(block);
  std::free(block);
  return call(__func__, [] {});  // what it reports is of earlier work
}
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) {
  return call(__func__, [&] { *memory = std::malloc(bytes); });
}
cudaError_t cudaFreeHost(void* memory) {
  return call(__func__, [&] { std::free(memory); });
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  return call(__func__, [&] { streams.push_back(*stream = new FakeStream); });
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return call(__func__, [&] {
    finish(*stream);
    std::erase(streams, stream);
    delete stream;
  });
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return call(__func__, [&] { finish(*stream); });
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  return call(__func__, [&] {
    enqueue(stream,
            [records = event->records, made = event->records->made] { reach(*records, made); });
  });
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return call(__func__, [&] { *event = new FakeEvent; });
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return call(__func__, [&] { delete event; });
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return call(__func__, [&] {
    const std::shared_ptr<Records> records = event->records;
    records->stream = stream;
    enqueue(stream, [records, made = ++records->made] { records->done = made; });
  });
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return call(__func__, [&] { reach(*event->records, event->records->made); });
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  return call(__func__, [&] { enqueue(stream, [=] { std::memcpy(to, from, bytes); }); });
}

cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  return call(__func__, [] {});
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  return call(__func__, [&] { *graph = nullptr; });
}
cudaError_t cudaGraphDestroy(cudaGraph_t) {
  return call(__func__, [] {});
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* graph, cudaGraph_t, unsigned long long) {
  return call(__func__, [&] { *graph = nullptr; });
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
  return call(__func__, [] {});
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t) {
  return call(__func__, [] {});
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t) {
  return call(__func__, [] {});
}

namespace accrue::cuda {
cudaError_t probe() { return ::report(gpu.probe); }
}  // namespace accrue::cuda
