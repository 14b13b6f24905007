// A stable sort of numbers with what belongs to them, on the device.
#pragma once
#include <cstddef>
#include <cstdint>

namespace accrue::cuda {

/// Bytes of workspace that sort_pairs() needs.
size_t sort_workspace(int64_t count);

/// Sorts keys below 2^bits; equal keys keep the order of their values.
void sort_pairs(void* workspace, size_t bytes, const int32_t* keys, int32_t* sorted_keys,
                const int32_t* values, int32_t* sorted_values, int64_t count, int bits);

}  // namespace accrue::cuda
