// Backward attention on tensor cores in bf16.
#include "accrue/cuda/attention_backward.cuh"

namespace accrue::cuda {

template void launch_backward(const BackwardArgs<BFloat16, float>&);

}  // namespace accrue::cuda
