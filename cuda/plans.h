// How work is cut into blocks. It depends on shapes alone, so that sums have the same bits on every
// device of a kind. Plain C++, so that tests run it without a GPU.
#pragma once
#include <algorithm>
#include <cstdint>

#include "accrue/core/functors/host_device.h"
#include "accrue/cuda/layout.h"

namespace accrue::cuda {

/// Blocks that fill an H200 (132 multiprocessors) four times over.
constexpr int64_t full_grid = 528;

/// Rows cut into chunks whose sums are kept apart: chunk i holds the rows [first(i), first(i + 1)).
struct RowChunks {
  int64_t rows = 0, size = 1, count = 0;

  RowChunks() = default;
  /// At most `most` chunks of at least `least` rows.
  RowChunks(int64_t rows_, int64_t least, int64_t most)
      : rows(rows_),
        size(std::max(least, ceil_div(rows_, std::max<int64_t>(most, 1)))),
        count(ceil_div(rows_, size)) {}
  ACCRUE_HD int64_t first(int64_t chunk) const {
    const int64_t row = chunk * size;
    return row < rows ? row : rows;
  }
};

/// Column sums of a matrix: blocks of `tile` columns and a chunk of rows each.
struct ColumnPlan {
  int64_t columns, tiles;
  RowChunks chunks;

  ColumnPlan(int64_t rows, int64_t columns_, int64_t tile)
      : columns(columns_),
        tiles(ceil_div(columns_, tile)),
        chunks(rows, 32, 2 * full_grid / tiles) {}
  /// Numbers in the workspace: one sum per chunk and column, none where a chunk is all.
  int64_t partials() const { return chunks.count > 1 ? chunks.count * columns : 0; }
};

/// Many tensors of any sizes as chunks of one launch; travels in the kernel's parameters.
template <class Item, int capacity>
struct ItemTable {
  Item items[capacity];
  uint32_t first_chunk[capacity + 1];  // of each item, and behind the last
  int count = 0;

  /// The item of a chunk. Items without elements have no chunk.
  ACCRUE_HD int find(uint32_t chunk) const {
    int low = 0, high = count - 1;
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (first_chunk[middle] <= chunk)
        low = middle;
      else
        high = middle - 1;
    }
    return low;
  }
};

/// launch(table, chunks) for as many tables as `count` items need. item(i) has elements().
template <class Item, int capacity, class Make, class Launch>
void for_tables(int64_t count, int64_t chunk, const Make& make, const Launch& launch) {
  ItemTable<Item, capacity> table;
  uint32_t chunks = 0;
  const auto flush = [&] {
    table.first_chunk[table.count] = chunks;
    if (chunks > 0) launch(table, chunks);
    table.count = 0;
    chunks = 0;
  };
  for (int64_t i = 0; i < count; ++i) {
    const Item item = make(i);
    if (item.elements == 0) continue;
    const int64_t more = ceil_div(item.elements, chunk);
    if (table.count == capacity || chunks + more > most_vectors) flush();
    table.first_chunk[table.count] = chunks;
    table.items[table.count++] = item;
    chunks += static_cast<uint32_t>(more);
  }
  flush();
}

}  // namespace accrue::cuda
