// What both directions of normalization share: who holds which part of a row.
#pragma once
#include "accrue/cuda/dispatch.h"
#include "accrue/cuda/kernels.h"
#include "accrue/cuda/norm_plan.h"
#include "accrue/cuda/reduce.cuh"

namespace accrue::cuda {

/// A sum over the threads that share a row: a warp, or a block.
template <bool one_warp, class Wide>
__device__ inline Wide row_sum(Wide value, Wide* shared) {
  if constexpr (one_warp)
    return warp_join(value);
  else
    return block_join(value, shared);
}

/// launch(std::integral_constant<int, K>) for the plan's number of vectors.
template <class Body>
void with_vectors(int vectors, const Body& body) {
  switch (vectors) {
    case 1:
      return body(std::integral_constant<int, 1>());
    case 2:
      return body(std::integral_constant<int, 2>());
    case 3:
      return body(std::integral_constant<int, 3>());
    default:
      return body(std::integral_constant<int, 4>());
  }
}

}  // namespace accrue::cuda
