// The kernels of this folder. Their contracts are those of the argument structs in core/kernels.h;
// every pointer to workspace is 64-byte aligned.
#pragma once
#include "accrue/core/kernels.h"
#include "accrue/core/map.h"

namespace accrue::cpu {

/// Also makes the entry for a kept layout of `b` (see Packs), without filling it, so that a dry run
/// counts its bytes.
size_t matmul_workspace(const kernel::Matmul&);
/// c = a·b + bias, or c += a·b + bias. Any strides, f32, bf16 and f16 in any combination. Same
/// shapes, strides and threads: same bits. Throws Failure if oneDNN fails.
void matmul(const kernel::Matmul&, void* workspace);
/// Products followed by an activation of each part while the cache holds it.
size_t matmul_unary_workspace(const kernel::MatmulUnary&);
void matmul_unary(const kernel::MatmulUnary&, void* workspace);
size_t matmul_unary_backward_workspace(const kernel::MatmulUnaryBackward&);
void matmul_unary_backward(const kernel::MatmulUnaryBackward&, void* workspace);

/// A few rows of one head per thread, whatever the batch.
size_t attention_workspace(const kernel::Attention&);
/// Flash style (Dao et al., arXiv 2205.14135): blocks of queries against blocks of keys with a
/// running maximum; blocks above the diagonal are skipped. Sums are f32 in every dtype. Here and
/// in the three below, results do not depend on the number of threads.
void attention(const kernel::Attention&, void* workspace);
size_t attention_backward_workspace(const kernel::AttentionBackward&);
/// Recomputes the probabilities from logsum, block by block; one thread does one head.
void attention_backward(const kernel::AttentionBackward&, void* workspace);
void rope(const kernel::Rope&, void*);
void dropout(const kernel::Dropout&, void*);

void copy(const kernel::Copy&, void* workspace);
void scale(const kernel::Scale&, void* workspace);
void fill(const kernel::Fill&, void* workspace);
void sum_to(const kernel::SumTo&, void* workspace);

void binary(const kernel::Binary&, void* workspace);
void unary(const kernel::Unary&, void* workspace);
void unary_backward(const kernel::UnaryBackward&, void* workspace);

void norm(const kernel::Norm&, void* workspace);
size_t norm_backward_workspace(const kernel::NormBackward&);
void norm_backward(const kernel::NormBackward&, void* workspace);

void embedding(const kernel::Embedding&, void* workspace);
void embedding_backward(const kernel::EmbeddingBackward&, void* workspace);

void cross_entropy(const kernel::CrossEntropy&, void* workspace);
void cross_entropy_backward(const kernel::CrossEntropyBackward&, void* workspace);
void count_targets(const kernel::CountTargets&, void* workspace);
size_t squared_error_workspace(const kernel::SquaredError&);
void squared_error(const kernel::SquaredError&, void* workspace);
void squared_error_backward(const kernel::SquaredErrorBackward&, void* workspace);

size_t dot_workspace(const kernel::Dot&);
void dot(const kernel::Dot&, void* workspace);
void sgd(const kernel::Sgd&, void* workspace);
void adam(const kernel::Adam&, void* workspace);

template <class Formula>
void map(const kernel::Map<Formula>& args, void*) {
  detail::map_on_host<Formula::outs, Formula::ins>(args.formula, args.outs.data(), args.ins.data());
}
void stochastic_add(const kernel::StochasticAdd&, void* workspace);
void fixed_point_add(const kernel::FixedPointAdd&, void* workspace);

/// to[c] = or += Σ_r from[r, c], in an order that depends on neither threads nor columns.
/// from [rows, columns], row-major and dense; `to` f32, bf16 or f16.
void sum_columns(const float* from, int64_t rows, int64_t columns, const Deposit& to);

}  // namespace accrue::cpu
