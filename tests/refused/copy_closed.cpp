// refused: cannot bind rvalue reference of type 'accrue::ClosedCycle
// Stepping a closed cycle that one keeps: it could be stepped twice.
#include "accrue/optim/optimizers.h"

using namespace accrue;

void update(Cycle& cycle, AdamW& optimizer) {
  ClosedCycle closed = cycle.close();
#ifdef MISTAKE
  optimizer.step(closed);
#else
  optimizer.step(std::move(closed));
#endif
}
