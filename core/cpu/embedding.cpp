// Rows of a table by number, and the sum of gradients into them.
#include <algorithm>
#include <cstring>
#include <numeric>

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
  // In 16 bits the rows of one id are added up before: a deposit is rounded once.
  const bool narrow = size_of(table.dtype) < 4;
  std::vector<int32_t> order(narrow ? rows : 0);
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, {}, [=](int32_t r) { return std::pair(ids[r], r); });
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
      parallel_rows(columns, rows, [=, of = order.data()](int64_t first, int64_t last) {
        for (int64_t r = 0, next = 0; r < rows; r = next) {
          const int64_t row = narrow ? of[r] : r;
          auto* to = sums + ids[row] * columns;
          for (next = r + 1; narrow && next < rows && ids[of[next]] == ids[row];) ++next;
          by_register(first, last, [=](int64_t i, auto mover) {
            Floats sum = mover.load(dy + row * columns + i);
            for (int64_t k = r + 1; k < next; ++k) sum += mover.load(dy + of[k] * columns + i);
            put(Writing<Write::add>{}, mover, to + i, sum);
          });
        }
      });
    });
  });
}

}  // namespace accrue::cpu
