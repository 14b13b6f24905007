// The kernels of the `reference` backend: naive loops that mirror the formulae in core/kernels.h,
// in any floating dtype. They compute in f64, round only when they store, and need no workspace.
#pragma once
#include "accrue/core/kernels.h"

namespace accrue::reference {

void matmul(const kernel::Matmul&, void*);

void copy(const kernel::Copy&, void*);
void fill(const kernel::Fill&, void*);
void binary(const kernel::Binary&, void*);
void unary(const kernel::Unary&, void*);
void unary_backward(const kernel::UnaryBackward&, void*);
void matmul_unary(const kernel::MatmulUnary&, void*);
void matmul_unary_backward(const kernel::MatmulUnaryBackward&, void*);
void scale(const kernel::Scale&, void*);
void dropout(const kernel::Dropout&, void*);

void sum_to(const kernel::SumTo&, void*);
void dot(const kernel::Dot&, void*);

void norm(const kernel::Norm&, void*);
void norm_backward(const kernel::NormBackward&, void*);

void attention(const kernel::Attention&, void*);
void attention_backward(const kernel::AttentionBackward&, void*);

void rope(const kernel::Rope&, void*);
void embedding(const kernel::Embedding&, void*);
void embedding_backward(const kernel::EmbeddingBackward&, void*);

void cross_entropy(const kernel::CrossEntropy&, void*);
void cross_entropy_backward(const kernel::CrossEntropyBackward&, void*);
void count_targets(const kernel::CountTargets&, void*);
void squared_error(const kernel::SquaredError&, void*);
void squared_error_backward(const kernel::SquaredErrorBackward&, void*);

void sgd(const kernel::Sgd&, void*);
void adam(const kernel::Adam&, void*);

template <class Formula>
void map(const kernel::Map<Formula>&, void*);
void stochastic_add(const kernel::StochasticAdd&, void*);
void fixed_point_add(const kernel::FixedPointAdd&, void*);

}  // namespace accrue::reference
