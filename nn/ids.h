// Checks of token ids, where the host can read them.
#pragma once
#include "accrue/core/kernels.h"

namespace accrue {

/// Throws BadArgument, naming the position, on an id outside [0, limit) that is not `ignore`. i32,
/// on the host; elsewhere and in a dry run nothing is checked, because nothing may be read.
inline void check_ids(const char* name, const Tensor& ids, int64_t limit, int64_t ignore = -1) {
  if (ids.device().backend->memory != &host_allocator() || !ids.is_contiguous()) return;
  const int32_t* data = ids.data<int32_t>();
  if (!data) return;
  for (int64_t i = 0; i < ids.elements(); ++i)
    require((data[i] >= 0 && data[i] < limit) || (data[i] == ignore && ignore < 0), "[", name,
            "] expected ids in [0, ", limit, "), got ", data[i], " at position ", i);
}

}  // namespace accrue
