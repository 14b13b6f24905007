// refused: discards qualifiers
// Writing a tensor that was taken as const.
#include "accrue/core/kernels.h"

using namespace accrue;

#ifdef MISTAKE
void clear(const Tensor& tensor) {
#else
void clear(Tensor& tensor) {
#endif
  launch(tensor.device(), kernel::Fill{tensor.out(), 0});
}
