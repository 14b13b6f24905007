// refused: could not convert .*MicroStep.* to .*Ordinal.*StepTag
// A schedule that counts micro-batches.
#include "accrue/optim/schedule.h"

using namespace accrue;

Schedule decay() {
#ifdef MISTAKE
  return cosine(1e-3, MicroStep{5}, Step{10}, 0);
#else
  return cosine(1e-3, Step{5}, Step{10}, 0);
#endif
}
