// Backward attention on tensor cores in f16.
#include "accrue/cuda/attention_backward.cuh"

namespace accrue::cuda {

template void launch_backward(const BackwardArgs<Float16, float>&);

}  // namespace accrue::cuda
