// Forward attention on tensor cores in bf16.
#include "accrue/cuda/attention_forward.cuh"

namespace accrue::cuda {

template void launch_forward(const ForwardArgs<BFloat16, float>&);

}  // namespace accrue::cuda
