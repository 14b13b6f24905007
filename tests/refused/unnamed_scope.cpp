// refused: ignoring (returned value|return value).*nodiscard.*unused-result
// A scope without a name ends at once, and nothing would be recorded.
#include "batch.h"

void train(Cycle& cycle, const Rows& micro, const Parameter& weight) {
#ifdef MISTAKE
  cycle.begin(micro);
#else
  MicroScope scope = cycle.begin(micro);
  scope.backward(Loss(sum(matmul(micro.x, weight)), 1));
#endif
}
