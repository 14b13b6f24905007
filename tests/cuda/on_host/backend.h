// The kernels of cuda/ on the host, thread by thread, for tests where there is no GPU.
#pragma once
#include "accrue/core/tensor.h"

namespace accrue::test {

/// What needs cuBLASLt or cuDNN, products and attention, is `reference`'s; attention's own bodies
/// have tests of their own.
Device cuda_on_host();

}  // namespace accrue::test
