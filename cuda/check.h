// Checks of CUDA calls, and handles that free themselves.
#pragma once
#include <cuda_runtime_api.h>

#include <string_view>
#include <utility>

#include "accrue/core/error.h"

namespace accrue::cuda {

/// Throws OutOfMemory where the device has none left, else Failure: the call's text, its code's
/// name and description, file and line.
[[noreturn]] void fail(cudaError_t code, const char* call, const char* file, int line);

/// "norm.cu" of any path.
constexpr std::string_view file_name(std::string_view path) {
  return path.substr(path.find_last_of('/') + 1);
}

/// Owns a library's handle. `release` is called with it.
template <class T, auto release>
class Handle {
 public:
  Handle() = default;
  explicit Handle(T handle) : handle_(handle) {}
  Handle(Handle&& other) noexcept : handle_(std::exchange(other.handle_, T{})) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Handle() {
    if (handle_) release(handle_);  // nothing can be done about an error here
  }
  T get() const { return handle_; }
  /// For calls that make the handle.
  T* place() { return &handle_; }

 private:
  T handle_{};
};
using Stream = Handle<cudaStream_t, cudaStreamDestroy>;
using Event = Handle<cudaEvent_t, cudaEventDestroy>;

}  // namespace accrue::cuda

#define CUDA_CHECK(call)                                            \
  do {                                                              \
    const cudaError_t accrue_code = (call);                         \
    if (accrue_code != cudaSuccess) [[unlikely]]                    \
      ::accrue::cuda::fail(accrue_code, #call, __FILE__, __LINE__); \
  } while (false)

/// After a kernel<<<…>>>: what its launch reported.
#define CUDA_CHECK_LAUNCH(kernel)                                               \
  do {                                                                          \
    const cudaError_t accrue_code = cudaGetLastError();                         \
    if (accrue_code != cudaSuccess) [[unlikely]]                                \
      ::accrue::cuda::fail(accrue_code, #kernel "<<<…>>>", __FILE__, __LINE__); \
  } while (false)
