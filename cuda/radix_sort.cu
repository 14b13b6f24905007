// CUB's radix sort in a file of its own: it takes long to compile.
#include "accrue/cuda/radix_sort.h"

#include <cub/device/device_radix_sort.cuh>

#include "accrue/cuda/check.h"
#include "accrue/cuda/runtime.h"

namespace accrue::cuda {

size_t sort_workspace(int64_t count) {
  size_t bytes = 0;
  const int32_t* none = nullptr;
  int32_t* nowhere = nullptr;
  CUDA_CHECK(cub::DeviceRadixSort::SortPairs(nullptr, bytes, none, nowhere, none, nowhere,
                                             static_cast<int>(count), 0, 31, stream()));
  return bytes;
}

void sort_pairs(void* workspace, size_t bytes, const int32_t* keys, int32_t* sorted_keys,
                const int32_t* values, int32_t* sorted_values, int64_t count, int bits) {
  CUDA_CHECK(cub::DeviceRadixSort::SortPairs(workspace, bytes, keys, sorted_keys, values,
                                             sorted_values, static_cast<int>(count), 0, bits,
                                             stream()));
}

}  // namespace accrue::cuda
