// Forward attention on tensor cores in f16.
#include "accrue/cuda/attention_forward.cuh"

namespace accrue::cuda {

template void launch_forward(const ForwardArgs<Float16, float>&);

}  // namespace accrue::cuda
