// refused: has no member named 'backward'
// Backward on the cycle itself: only a micro-batch's scope has one.
#include "batch.h"

void step(Cycle& cycle, const Rows& micro, const Var& sum) {
  MicroScope scope = cycle.begin(micro);
#ifdef MISTAKE
  cycle.backward(Loss(sum, 1));
#else
  scope.backward(Loss(sum, 1));
#endif
}
