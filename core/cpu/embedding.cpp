// Rows of a table by number, and the sum of gradients into them.
#include <cstring>

#include "accrue/core/cpu/dense.h"
#include "accrue/core/cpu/kernels.h"

namespace accrue::cpu {

void embedding(const kernel::Embedding& args, void*) {
  const int32_t* ids = static_cast<const int32_t*>(args.ids.data);
  const int64_t columns = args.table.shape[-1];
  with_float(args.table.dtype, [&](auto source) {
    with_float(args.y.dtype, [&](auto target) {
      const auto* table = static_cast<const decltype(source)*>(args.table.data);
      auto* y = static_cast<decltype(target)*>(args.y.data);
      parallel_rows(args.ids.shape.elements(), columns, [=](int64_t first, int64_t last) {
        for (int64_t r = first; r < last; ++r) {
          const auto* from = table + ids[r] * columns;
          auto* to = y + r * columns;
          by_register(0, columns,
                      [=](int64_t i, auto mover) { mover.store(to + i, mover.load(from + i)); });
        }
      });
    });
  });
}

// Threads share the columns, not the rows: every sum is in the order of r, without atomics.
void embedding_backward(const kernel::EmbeddingBackward& args, void*) {
  const int32_t* ids = static_cast<const int32_t*>(args.ids.data);
  const Out& table = args.table.into;
  const int64_t columns = table.shape[-1], rows = args.ids.shape.elements();
  if (args.table.write == Write::set) {
    char* bytes = static_cast<char*>(table.data);
    const int64_t row = columns * size_of(table.dtype);
    parallel_rows(table.shape[0], columns, [=](int64_t first, int64_t last) {
      std::memset(bytes + first * row, 0, (last - first) * row);
    });
  }
  with_float(args.dy.dtype, [&](auto source) {
    with_float(table.dtype, [&](auto target) {
      const auto* dy = static_cast<const decltype(source)*>(args.dy.data);
      auto* sums = static_cast<decltype(target)*>(table.data);
      parallel_rows(columns, rows, [=](int64_t first, int64_t last) {
        for (int64_t r = 0; r < rows; ++r) {
          const auto* from = dy + r * columns;
          auto* to = sums + ids[r] * columns;
          by_register(first, last, [=](int64_t i, auto mover) {
            put(Writing<Write::add>{}, mover, to + i, mover.load(from + i));
          });
        }
      });
    });
  });
}

}  // namespace accrue::cpu
