// refused: could not convert '5' from 'int' to 'accrue::Step'
// A schedule in plain numbers: steps, or micro-batches?
#include "accrue/optim/schedule.h"

using namespace accrue;

Schedule decay() {
#ifdef MISTAKE
  return cosine(1e-3, 5, 10, 0);
#else
  return cosine(1e-3, Step{5}, Step{10}, 0);
#endif
}
