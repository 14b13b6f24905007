// The kernels of this folder. Their contracts are those of the argument structs in core/kernels.h.
// Each is enqueued on stream(); none synchronises, allocates, or reads pageable host memory. Every
// pointer to workspace is 256-byte aligned.
#pragma once
#include "accrue/core/kernels.h"

namespace accrue::cuda {

extern const Kernel<kernel::Matmul> matmul;
extern const Kernel<kernel::MatmulUnary> matmul_unary;
extern const Kernel<kernel::MatmulUnaryBackward> matmul_unary_backward;
extern const Kernel<kernel::Attention> attention;
extern const Kernel<kernel::AttentionBackward> attention_backward;

void copy(const kernel::Copy&, void* workspace);
void scale(const kernel::Scale&, void* workspace);
void fill(const kernel::Fill&, void* workspace);
size_t sum_to_workspace(const kernel::SumTo&);
void sum_to(const kernel::SumTo&, void* workspace);

void binary(const kernel::Binary&, void* workspace);
void unary(const kernel::Unary&, void* workspace);
void unary_backward(const kernel::UnaryBackward&, void* workspace);

void norm(const kernel::Norm&, void* workspace);
size_t norm_backward_workspace(const kernel::NormBackward&);
void norm_backward(const kernel::NormBackward&, void* workspace);

void dropout(const kernel::Dropout&, void* workspace);
size_t rope_workspace(const kernel::Rope&);
void rope(const kernel::Rope&, void* workspace);

void embedding(const kernel::Embedding&, void* workspace);
size_t embedding_backward_workspace(const kernel::EmbeddingBackward&);
void embedding_backward(const kernel::EmbeddingBackward&, void* workspace);

size_t cross_entropy_workspace(const kernel::CrossEntropy&);
void cross_entropy(const kernel::CrossEntropy&, void* workspace);
void cross_entropy_backward(const kernel::CrossEntropyBackward&, void* workspace);
size_t count_targets_workspace(const kernel::CountTargets&);
void count_targets(const kernel::CountTargets&, void* workspace);
size_t squared_error_workspace(const kernel::SquaredError&);
void squared_error(const kernel::SquaredError&, void* workspace);
void squared_error_backward(const kernel::SquaredErrorBackward&, void* workspace);

size_t dot_workspace(const kernel::Dot&);
void dot(const kernel::Dot&, void* workspace);
/// Defined for the formulas of core/functors/folds.h.
template <class Formula>
void map(const kernel::Map<Formula>&, void* workspace);
void stochastic_add(const kernel::StochasticAdd&, void* workspace);
size_t fixed_point_add_workspace(const kernel::FixedPointAdd&);
void fixed_point_add(const kernel::FixedPointAdd&, void* workspace);

void sgd(const kernel::Sgd&, void* workspace);
void adam(const kernel::Adam&, void* workspace);

}  // namespace accrue::cuda
