// Lists of tensors of any sizes, shared out as if they were one.
#pragma once
#include <algorithm>

#include "accrue/core/cpu/vector.h"

namespace accrue::cpu {

/// Lays `items` of count(i) elements each behind one another and splits the whole among threads:
/// body(item, first, last, before) for elements [first, last) of an item that `before` others
/// precede. Returns the sum of the counts. A hundred tiny weights cost no fork, let alone a
/// hundred.
template <class Count, class Body>
int64_t parallel_items(int64_t items, int64_t work, const Count& count, const Body& body) {
  int64_t total = 0;
  for (int64_t i = 0; i < items; ++i) total += count(i);
  parallel_rows(total, work, [&](int64_t begin, int64_t end) {
    for (int64_t i = 0, before = 0; i < items && before < end; ++i) {
      const int64_t n = count(i);
      const int64_t first = std::max(begin - before, int64_t{0}), last = std::min(end - before, n);
      if (first < last) body(i, first, last, before);
      before += n;
    }
  });
  return total;
}

}  // namespace accrue::cpu
