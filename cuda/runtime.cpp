// The GPU of this process, set up when it is first needed.
#include "accrue/cuda/runtime.h"

#include <atomic>
#include <cstdlib>

#include "accrue/cuda/check.h"
#include "accrue/cuda/graph.h"
#include "accrue/cuda/probe.h"
#include "accrue/cuda/staging.h"

namespace accrue::cuda {
namespace {

constexpr const char* otherwise = ", or try Device::cpu()";

/// "13.0" of 13000.
std::string version_text(int version) { return text(version / 1000, '.', version % 1000 / 10); }

/// "cudaMalloc(…) to succeed, got cudaError… (2: out of memory) at runtime.cpp:1".
std::string outcome(cudaError_t code, const char* call, const char* file, int line) {
  return text(call, " to succeed, got ", cudaGetErrorName(code), " (", int{code}, ": ",
              cudaGetErrorString(code), ") at ", file_name(file), ':', line);
}

/// In CUDA_CHECK's place while the device is set up: nothing is lost that a checkpoint could save.
void check_setup(cudaError_t code, const char* call, int line) {
  if (code == cudaSuccess) return;
  cudaGetLastError();
  throw Failure(text("[device] expected ", outcome(code, call, __FILE__, line), "; see nvidia-smi",
                     otherwise));
}
#define CHECK_SETUP(call) check_setup((call), #call, __LINE__)

/// Throws Failure where there is no driver, no device, or one that this binary has no code for.
Properties find_device() {
  int driver = 0, count = 0, ordinal = 0;
  CHECK_SETUP(cudaDriverGetVersion(&driver));
  if (driver == 0)
    throw Failure(text("[device] expected NVIDIA's driver, got none; install it", otherwise));
  const cudaError_t counted = cudaGetDeviceCount(&count);
  if (counted == cudaErrorInsufficientDriver)
    throw Failure(text("[device] expected a driver for CUDA ", version_text(CUDART_VERSION),
                       ", got one for CUDA ", version_text(driver),
                       "; update the driver, or build with an older CUDA Toolkit", otherwise));
  if (counted == cudaErrorNoDevice || (counted == cudaSuccess && count == 0))
    throw Failure(
        text("[device] expected a GPU, got none; see nvidia-smi and the environment's "
             "CUDA_VISIBLE_DEVICES",
             otherwise));
  check_setup(counted, "cudaGetDeviceCount(&count)", __LINE__);
  CHECK_SETUP(cudaGetDevice(&ordinal));
  cudaDeviceProp found;
  CHECK_SETUP(cudaGetDeviceProperties(&found, ordinal));
  const cudaError_t probed = probe();
  // The last two: PTX of another architecture that this driver cannot compile.
  if (probed == cudaErrorNoKernelImageForDevice || probed == cudaErrorInvalidDeviceFunction ||
      probed == cudaErrorUnsupportedPtxVersion || probed == cudaErrorJitCompilerNotFound)
    throw Failure(text("[device] expected code for ", found.name, " of compute capability ",
                       found.major, '.', found.minor,
                       ", got a build without it; configure with "
                       "-DCMAKE_CUDA_ARCHITECTURES=",
                       found.major, found.minor, otherwise));
  check_setup(probed, "probe()", __LINE__);
  return {ordinal,
          found.multiProcessorCount,
          found.major,
          found.minor,
          found.totalGlobalMem,
          static_cast<size_t>(found.l2CacheSize),
          found.sharedMemPerBlockOptin};
}

struct Runtime {
  Properties properties = find_device();
  Stream stream;
  Staging staging;

  Runtime() : stream(made()), staging(stream.get()) {}
  static Stream made() {
    Stream stream;
    CHECK_SETUP(cudaStreamCreateWithFlags(stream.place(), cudaStreamNonBlocking));
    return stream;
  }
};

/// Never destroyed: tensors with static lifetime may outlive any order of destruction. Where it
/// throws, the next call tries again.
Runtime& runtime() {
  static Runtime* one = new Runtime;
  thread_local bool bound = false;  // a thread starts with device 0
  if (!bound) CHECK_SETUP(cudaSetDevice(one->properties.ordinal));
  bound = true;
  return *one;
}

constexpr size_t small = size_t{2} << 20, arena_bytes = 32 * small;

void* get_block(size_t bytes) {
  runtime();
  void* block = nullptr;
  const cudaError_t code = cudaMalloc(&block, bytes);
  if (code == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // the allocator gives back its cache and asks again
    return nullptr;
  }
  if (code != cudaSuccess) fail(code, "cudaMalloc(&block, bytes)", __FILE__, __LINE__);
  return block;
}

// Small blocks are cut from large ones: cudaMalloc takes long and hands out at least 2 MiB. Called
// under the allocator's lock.
void* get_or_cut(size_t bytes) {
  static char* arena = nullptr;
  static size_t left = 0;
  if (bytes >= small) return get_block(bytes);
  const size_t cut = (bytes + 255) / 256 * 256;
  if (left < cut) {
    arena = static_cast<char*>(get_block(arena_bytes));
    left = arena ? arena_bytes : 0;
    if (!arena) return nullptr;
  }
  arena += cut;
  left -= cut;
  return arena - cut;
}

// Waits for the device, so that nothing still uses the block. A failed device shows at the next
// call; here the error is taken back, or the next launch would be blamed for it.
void give_back_block(void* block, size_t) {
  cudaFree(block);
  cudaGetLastError();
}

}  // namespace

void fail(cudaError_t code, const char* call, const char* file, int line) {
  cudaGetLastError();  // one that can be cleared is not to be reported twice
  const std::string what = text("[cuda] expected ", outcome(code, call, file, line));
  if (code == cudaErrorMemoryAllocation)
    throw OutOfMemory(what + "; try a smaller micro-batch or recomputation");
  throw Failure(
      what +
      "; a device that failed is lost to this process: go on from the last checkpoint, and "
      "try compute-sanitizer, or CUDA_LAUNCH_BLOCKING=1, to find the kernel");
}

cudaStream_t stream() { return runtime().stream.get(); }

bool has_device() {
  // Only what was found is kept: whoever asks too early, or while the memory is full, may ask
  // again.
  static std::atomic<bool> found = false;
  if (found) return true;
  try {
    found = stream() != nullptr;
  } catch (const Failure&) {
  } catch (const OutOfMemory&) {
  }
  return found;
}

const Properties& properties() { return runtime().properties; }

Allocator& allocator() {
  // As in host_allocator(): for memory checkers each block by itself.
  static Allocator* one = std::getenv("ACCRUE_NO_CACHE")
                              ? new Allocator({get_block, give_back_block, false})
                              : new Allocator({get_or_cut, give_back_block, true, small});
  return *one;
}

void to_host(void* host, const void* device, size_t bytes) {
  refuse_in_graph("copy to the host");
  runtime().staging.to_host(host, device, bytes);
}

void from_host(void* device, const void* host, size_t bytes) {
  refuse_in_graph("copy from the host");
  runtime().staging.from_host(device, host, bytes);
}

void synchronize() {
  refuse_in_graph("wait for the device");
  CUDA_CHECK(cudaStreamSynchronize(stream()));
}

}  // namespace accrue::cuda
