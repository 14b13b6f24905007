// cuBLASLt's algorithm for a product, chosen once per shape, layout and alignment.
#pragma once
#include <cublasLt.h>

#include "accrue/cuda/matmul_route.h"

namespace accrue::cuda {

struct MatmulPlan {
  cublasLtMatmulAlgo_t algorithm;
  size_t workspace = 0;  // bytes
};

/// The plan of a product; null where cuBLASLt has no algorithm for it. Deterministic: an algorithm
/// that splits the terms adds the parts up outside of d, in the type of the sums. Kept for the life
/// of the process. Throws Failure.
const MatmulPlan* find_plan(const Gemm&);

/// Enqueues the product on stream().
void run_plan(const MatmulPlan&, const Gemm&, void* workspace);

}  // namespace accrue::cuda
