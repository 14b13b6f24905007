// Where the numbers of fused attention lie: tiles in shared memory, fragments in a warp's lanes,
// and which block of threads takes which queries. Plain index arithmetic, for host and device.
#pragma once
#include <cstdint>

#include "accrue/core/functors/host_device.h"

namespace accrue::cuda {

constexpr int warp_size = 32;
constexpr int chunk = 8;  // elements of two bytes that one 16-byte copy moves

/// Place of an element of a [rows, width] tile of two-byte numbers, width 64 or 128. Chunks of a
/// row are exchanged so that eight rows of one column of chunks lie in different banks.
ACCRUE_HD constexpr int tile_place(int row, int column, int width) {
  const int swizzled = (column / chunk) ^ (row & 7);
  return row * width + swizzled * chunk + (column & 7);
}
/// Where the element `columns` to the right and `rows` below is, of one in the first 16 columns.
/// columns: a multiple of 16; rows: of 8. Cheap where both are known.
ACCRUE_HD constexpr int tile_step(int place, int rows, int columns, int width) {
  return (place ^ columns) + rows * width;
}

struct Place {
  int row, column;
};

/// Of the 16 × 8 result of mma.m16n8k16: where a lane's numbers 0 … 3 are.
ACCRUE_HD constexpr Place sum_place(int lane, int number) {
  return {lane / 4 + number / 2 * 8, lane % 4 * 2 + number % 2};
}
/// Of its 16 × 16 left factor: where the lower half of a lane's word 0 … 3 is; the upper half is
/// one column on.
ACCRUE_HD constexpr Place left_place(int lane, int word) {
  return {lane / 4 + word % 2 * 8, lane % 4 * 2 + word / 2 * 8};
}
/// Of its 16 × 8 right factor: where the lower half of a lane's word 0 or 1 is; the upper half is
/// one row on.
ACCRUE_HD constexpr Place right_place(int lane, int word) {
  return {lane % 4 * 2 + word * 8, lane / 4};
}

// Which row of eight numbers a lane names to ldmatrix.x4, whose matrix i takes the rows of lanes
// 8i … 8i+7 and becomes word i of every lane.

/// For a left factor of 16 rows × 16 terms at the origin, stored [row][term]; transposed: for two
/// right factors side by side, of 16 terms × 16 columns, stored [term][column].
ACCRUE_HD constexpr Place rows_of_terms(int lane) { return {lane % 16, lane / 16 * 8}; }
/// For two right factors, of 16 terms × 16 columns, stored [column][term].
ACCRUE_HD constexpr Place columns_of_terms(int lane) {
  return {lane % 8 + lane / 16 * 8, lane / 8 % 2 * 8};
}

/// What one block of threads works on.
struct Task {
  int first;  // query or key
  int head, sample;
};
/// Blocks of one head lie together, so that they share its keys in the cache.
ACCRUE_HD constexpr Task task_of(int64_t block, int blocks_of_head, int heads, int block_size,
                                 bool last_first) {
  const int part = static_cast<int>(block % blocks_of_head);
  const int64_t head = block / blocks_of_head;
  return {(last_first ? blocks_of_head - 1 - part : part) * block_size,
          static_cast<int>(head % heads), static_cast<int>(head / heads)};
}

ACCRUE_HD constexpr int divide_up(int number, int by) { return (number + by - 1) / by; }

}  // namespace accrue::cuda
