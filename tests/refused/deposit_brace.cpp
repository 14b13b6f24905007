// refused: could not convert .* to 'accrue::Deposit'
// A deposit that does not say whether it sets or adds.
#include "accrue/core/kernels.h"

using namespace accrue;

Deposit place(Tensor tensor) {
#ifdef MISTAKE
  return {tensor.out()};
#else
  return {tensor.out(), Write::add};
#endif
}
