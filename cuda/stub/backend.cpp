// In place of cuda/ where it is not built.
#include "accrue/core/error.h"
#include "accrue/core/tensor.h"

namespace accrue {

Device Device::cuda() {
  throw Failure(
      "[device] expected a build with CUDA, got one without; configure with -DACCRUE_CUDA=ON and a "
      "CUDA compiler, or try Device::cpu()");
}

bool Device::has_cuda() { return false; }

}  // namespace accrue
