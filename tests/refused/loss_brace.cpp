// refused: 'accrue::Loss::Loss.accrue::Var.' is private
// A loss without its count.
#include "accrue/autograd/loss.h"

using namespace accrue;

Loss of(const Var& sum) {
#ifdef MISTAKE
  return {sum};
#else
  return {sum, 1};
#endif
}
