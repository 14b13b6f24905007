// refused: cannot convert .accrue::In.
// Writing to the accumulated sum: whoever reads a closed cycle may not change it.
#include "accrue/autograd/cycle.h"

using namespace accrue;

void read(const ClosedCycle& closed, const Parameter& weight, Tensor& result) {
#ifdef MISTAKE
  launch(result.device(), kernel::Fill{closed.sum(weight), 0});
#else
  launch(result.device(), kernel::Copy{closed.sum(weight), result.out(), Write::set});
#endif
}
