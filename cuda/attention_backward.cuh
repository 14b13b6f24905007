// Launches of backward attention on tensor cores.
#pragma once
#include "accrue/cuda/attention_keys.h"
#include "accrue/cuda/attention_launch.cuh"
#include "accrue/cuda/attention_launch.h"
#include "accrue/cuda/attention_queries.h"
#include "accrue/cuda/attention_route.h"

namespace accrue::cuda {

template <class Cut>
__global__ void __launch_bounds__(block_threads) attention_queries_kernel(
    const __grid_constant__ BackwardArgs<typename Cut::Number, float> args) {
  const DeviceLanes lanes;
  QueryBlock<Cut, DeviceLanes>(lanes, args, shared_memory()).run();
}

template <class Cut>
__global__ void __launch_bounds__(block_threads)
    attention_keys_kernel(const __grid_constant__ BackwardArgs<typename Cut::Number, float> args) {
  const DeviceLanes lanes;
  KeyBlock<Cut, DeviceLanes>(lanes, args, shared_memory()).run();
}

template <class T>
void launch_backward(const BackwardArgs<T, float>& args) {
  with_cut(args.sizes.width, args.dropout.threshold > 0, [&](auto width, auto dropout) {
    using Queries = QueryCut<T, width, dropout>;
    launch_blocks<attention_queries_kernel<Queries>>(blocks_of(args.sizes, Queries::queries),
                                                     block_threads, Queries::shared, args);
    using Keys = KeyCut<T, width, dropout>;
    launch_blocks<attention_keys_kernel<Keys>>(blocks_of(args.sizes, Keys::keys), block_threads,
                                               Keys::shared, args);
  });
}

}  // namespace accrue::cuda
