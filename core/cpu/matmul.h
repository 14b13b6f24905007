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

/// Whether products of f32 matrices may run on the CPU's matrix tiles (AMX), each number as the
/// exact sum of three of bf16, six products of which make one; sums stay f32. The error bound is
/// that of plain f32 products, the error smaller; no number may reach 2¹²⁷, and below 2⁻¹⁰³
/// numbers lose bits. Weights then keep 12 bytes a number for their layouts. For the whole
/// process, between cycles; off at first, since a machine shared with others may slow its tiles
/// down. Throws Failure where there are no tiles.
void allow_f32_on_tiles(bool allowed);

/// Products followed by an activation of each part while the cache holds it.
size_t matmul_unary_workspace(const kernel::MatmulUnary&);
void matmul_unary(const kernel::MatmulUnary&, void* workspace);
size_t matmul_unary_backward_workspace(const kernel::MatmulUnaryBackward&);
void matmul_unary_backward(const kernel::MatmulUnaryBackward&, void* workspace);

}  // namespace accrue::cpu
