// What a backend may offer beside kernels: graphs of them, named ranges for profilers, and copies
// that run beside them. All of it may be missing.
#pragma once
#include <cstddef>

namespace accrue {

/// Kernels that are launched in this thread between begin() and end() do not run: they go into a
/// graph, with their arguments as they are. Meanwhile transfers throw Failure.
struct GraphCalls {
  void (*begin)();
  /// The graph; null where it is not to be kept, or none was begun. Throws Failure if it fails.
  void* (*end)(bool keep);
  /// Enqueues all its kernels.
  void (*replay)(void* graph);
  void (*free)(void* graph);
};

/// Names for a profiler's timeline; they nest.
struct RangeCalls {
  void (*begin)(const char* name);
  void (*end)();
};

/// A copy to the device that runs beside its kernels, from host memory made for it.
class Upload {
 public:
  virtual ~Upload() = default;
  /// To be filled before start().
  virtual void* host() = 0;
  /// Begins to copy all bytes, after what was enqueued before the upload was made. In any thread.
  virtual void start() = 0;
  /// What is enqueued from now on runs after the copy.
  virtual void finish() = 0;
};

}  // namespace accrue
