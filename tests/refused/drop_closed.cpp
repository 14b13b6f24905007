// refused: ignoring (returned value|return value).*nodiscard.*unused-result
// Closing a cycle without stepping it.
#include "accrue/autograd/cycle.h"

using namespace accrue;

double close(Cycle& cycle) {
#ifdef MISTAKE
  cycle.close();
  return 0;
#else
  return cycle.close().mean_loss();
#endif
}
