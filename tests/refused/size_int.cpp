// refused: no matching function for call to .accrue::Cycle::split
// A bare number of micro-batch size: samples, or how many micro-batches?
#include "batch.h"

std::vector<Rows> pieces(Cycle& cycle, const Rows& batch) {
#ifdef MISTAKE
  return cycle.split(batch, 4);
#else
  return cycle.split(batch, {.samples = 4});
#endif
}
