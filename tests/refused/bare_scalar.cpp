// refused: no matching function for call to 'accrue::Cycle::run
// A closure that returns a bare scalar: its count is missing.
#include "batch.h"

ClosedCycle train(Cycle& cycle, const Rows& batch, const Parameter& weight) {
  return cycle.run(batch, {.samples = 4}, [&](const Rows& micro) {
    const Var total = sum(matmul(micro.x, weight));
#ifdef MISTAKE
    return total;
#else
    return Loss(total, micro.samples().size());
#endif
  });
}
