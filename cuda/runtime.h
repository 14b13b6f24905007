// The GPU of this process: its memory, its stream, and copies between it and the host.
#pragma once
#include <cuda_runtime_api.h>

#include "accrue/core/allocator.h"

namespace accrue::cuda {

/// The stream on which everything of this backend is enqueued. The first call sets the device up.
/// Throws Failure, saying which it is: no driver, one that is too old for this CUDA runtime, no
/// device, or a device whose architecture was not compiled in.
cudaStream_t stream();

/// Whether stream() would succeed.
bool has_device();

/// What is asked of the device once.
struct Properties {
  int ordinal, multiprocessors, major, minor;
  size_t memory, l2_bytes, shared_bytes_per_block;
};
const Properties& properties();

/// Device memory. Blocks that are freed are used again by later work of the same stream, which runs
/// after what still uses them.
Allocator& allocator();

/// Copies in the stream's order, none while a graph is made. to_host() waits until the bytes are
/// there; after from_host() the host's bytes may be changed: it waits only where much is under way.
void to_host(void* host, const void* device, size_t bytes);
void from_host(void* device, const void* host, size_t bytes);

/// Waits until the device has done all that was enqueued. Throws Failure for what failed there.
void synchronize();

}  // namespace accrue::cuda
