// Operations that every model uses. Each is differentiable in all its Var inputs; shapes that do
// not fit throw BadArgument, naming the operation and both shapes.
#pragma once
#include "accrue/autograd/var.h"

namespace accrue {

/// y = a + b; the shapes broadcast.
Var operator+(const Var& a, const Var& b);
/// y = a·b, element by element; the shapes broadcast.
Var operator*(const Var& a, const Var& b);
/// y = factor·x.
Var scale(const Var& x, double factor);
/// y = x·w. x […, K], w [K, N], y […, N].
Var matmul(const Var& x, const Var& w);
/// y = x·wᵀ. x […, K], w [N, K], y […, N].
Var matmul_transposed(const Var& x, const Var& w);
/// y = x·w + b. x […, K], w [K, N], b [N], y […, N].
Var linear(const Var& x, const Var& w, const Var& b);

/// y = gelu(x·fc + fc_bias)·proj + proj_bias, a transformer's two layers between attentions.
/// x […, C]; fc [C, H]; fc_bias [H]; proj [H, D]; proj_bias [D]; y […, D]. Of the hidden states
/// only those before gelu are kept: backward makes gelu's values together with its slopes.
Var gelu_mlp(const Var& x, const Var& fc, const Var& fc_bias, const Var& proj,
             const Var& proj_bias);

/// GPT-2's gelu: x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))). Source: arXiv 1606.08415.
Var gelu(const Var& x);
/// x·sigmoid(x).
Var silu(const Var& x);
/// max(x, 0); the gradient at 0 is 0.
Var relu(const Var& x);
/// (eˣ − e⁻ˣ)/(eˣ + e⁻ˣ).
Var tanh(const Var& x);

/// The same numbers in another shape, uncopied; one size may be −1.
Var reshape(const Var& x, Shape shape);
/// Rows [first, first + count) of dimension 0, uncopied.
Var slice(const Var& x, int64_t first, int64_t count);
/// [1]: the sum of all elements.
Var sum(const Var& x);

}  // namespace accrue
