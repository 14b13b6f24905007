// Tests of cuda/'s host side begin here: a fake GPU that has refused and then was set up, and
// memory of it.
#pragma once
#include <cstddef>
#include <stdexcept>
#include <string>

#include "accrue/core/error.h"
#include "accrue/cuda/runtime.h"
#include "cuda_runtime/fake_gpu.h"
#include "messages.h"

namespace accrue::test::fake {

using namespace accrue::cuda;

constexpr size_t MiB = size_t{1} << 20;

/// What the first use of the device says, machine after machine. Asked by every test before
/// anything else: a device that was set up once stays.
inline const std::map<std::string, std::string>& refusals() {
  static const auto all = [] {
    std::map<std::string, std::string> messages;
    const auto on = [&](const char* machine, const FakeGpu& state) {
      gpu = state;
      std::string& message = messages[machine] = message_of<std::runtime_error>(stream);
      gpu = state;  // a call that fails once shall fail for has_device() too
      if (has_device()) message += ", and has_device()";
    };
    on("no driver", {.driver = 0});
    on("old driver", {.driver = 12040});
    on("no device", {.devices = 0});
    on("other architecture", {.major = 7, .minor = 5, .probe = cudaErrorNoKernelImageForDevice});
    on("newer PTX", {.major = 12, .minor = 1, .probe = cudaErrorUnsupportedPtxVersion});
    on("no JIT", {.major = 12, .minor = 1, .probe = cudaErrorJitCompilerNotFound});
    on("not ready", {.failing = "cudaGetDeviceCount", .with = cudaErrorSystemNotReady});
    on("busy", {.probe = cudaErrorDevicesUnavailable});
    on("full", {.probe = cudaErrorMemoryAllocation});
    on("nearly full", {.failing = "cudaStreamCreateWithFlags", .with = cudaErrorMemoryAllocation});
    gpu = {.ordinal = 3};
    return messages;
  }();
  return all;
}

/// Leaves the device as it was.
struct Machine {
  Machine() {
    refusals();
    stream();
  }
  ~Machine() {
    gpu.failing.clear();
    gpu.lost = gpu.last = cudaSuccess;
    gpu.eager = false;
    gpu.memory = size_t{1} << 30;
    finish_all();
    allocator().trim();
  }
};

/// Device memory for a test.
struct Block {
  size_t bytes;
  char* data = static_cast<char*>(allocator().allocate(bytes, Tag::activations, false));

  explicit Block(size_t bytes_) : bytes(bytes_) {}
  Block(const Block&) = delete;
  ~Block() { allocator().release(data, bytes, Tag::activations, false); }
};

}  // namespace accrue::test::fake
