// Matrix products of the `cpu` backend.
#pragma once
#include <cstddef>

#include "accrue/core/kernels.h"

namespace accrue::cpu {

/// Bytes of workspace that `matmul` needs. Also makes the entry for a kept layout of `b` (see
/// Packs), without filling it, so that a dry run counts its bytes.
size_t matmul_workspace(const kernel::Matmul&);

/// c = a·b + bias, or c += a·b + bias; the contract is kernel::Matmul's. Any strides, f32, bf16
/// and f16 in any combination. Same shapes, strides and threads: same bits. Throws Failure if
/// oneDNN fails.
void matmul(const kernel::Matmul&, void* workspace);

/// Products followed by an activation of each part while the cache holds it.
size_t matmul_unary_workspace(const kernel::MatmulUnary&);
void matmul_unary(const kernel::MatmulUnary&, void* workspace);
size_t matmul_unary_backward_workspace(const kernel::MatmulUnaryBackward&);
void matmul_unary_backward(const kernel::MatmulUnaryBackward&, void* workspace);

}  // namespace accrue::cpu
