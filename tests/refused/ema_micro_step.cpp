// refused: MicroStep.* to .*StepReport
// An average that advances with every micro-batch.
#include "accrue/optim/ema.h"

using namespace accrue;

void average(Ema& ema, const StepReport& report) {
#ifdef MISTAKE
  (void)report;
  ema.update(MicroStep{3});
#else
  ema.update(report);
#endif
}
