// Launches of forward attention on tensor cores.
#pragma once
#include "accrue/cuda/attention_forward.h"
#include "accrue/cuda/attention_launch.cuh"
#include "accrue/cuda/attention_launch.h"
#include "accrue/cuda/attention_route.h"

namespace accrue::cuda {

template <class Cut>
__global__ void __launch_bounds__(block_threads) attention_forward_kernel(
    const __grid_constant__ ForwardArgs<typename Cut::Number, float> args) {
  const DeviceLanes lanes;
  ForwardBlock<Cut, DeviceLanes>(lanes, args, shared_memory()).run();
}

template <class T>
void launch_forward(const ForwardArgs<T, float>& args) {
  with_cut(args.sizes.width, args.dropout.threshold > 0, [&](auto width, auto dropout) {
    using Cut = ForwardCut<T, width, dropout>;
    launch_blocks<attention_forward_kernel<Cut>>(blocks_of(args.sizes, Cut::queries), block_threads,
                                                 Cut::shared, args);
  });
}

}  // namespace accrue::cuda
