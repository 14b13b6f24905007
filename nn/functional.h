// Operations of neural networks, as functions. Layers (layers.h) are these with their parameters.
#pragma once
#include "accrue/autograd/loss.h"
#include "accrue/autograd/module.h"
#include "accrue/autograd/operations.h"

namespace accrue {

/// y = (x − μ)/√(σ² + epsilon)·gamma + beta over the last dimension. x, y […, C]; gamma, beta [C].
/// Source: Ba, Kiros, Hinton, arXiv 1607.06450.
Var layer_norm(const Var& x, const Var& gamma, const Var& beta, double epsilon = 1e-5);
/// y = x/√(E x² + epsilon)·gamma over the last dimension. x, y […, C]; gamma [C].
/// Source: Zhang & Sennrich, arXiv 1910.07467.
Var rms_norm(const Var& x, const Var& gamma, double epsilon = 1e-5);

struct SumAndNorm {
  Var sum, norm;
};
/// sum = x + branch and norm = layer_norm(sum), or rms_norm(sum), in one pass over memory, to the
/// bit of the two apart. x, branch, sum, norm […, C], contiguous, of one shape and dtype, else
/// BadArgument; gamma, beta [C].
SumAndNorm add_layer_norm(const Var& x, const Var& branch, const Var& gamma, const Var& beta,
                          double epsilon = 1e-5);
SumAndNorm add_rms_norm(const Var& x, const Var& branch, const Var& gamma, double epsilon = 1e-5);

/// y[…] = table[ids[…]]. table [V, C]; ids i32 of any shape; y [ids…, C].
/// Throws BadArgument on ids outside [0, V); on a device those are checked that came from the host.
Var embedding(const Var& table, const Tensor& ids);

/// Zeroes elements with probability p and divides the rest by 1 − p; the identity in evaluation.
/// Keyed by site, cycle and global sample: the same for every split of a batch. Dimension 0 must
/// hold the micro-batch's samples, or a multiple of them, sample by sample. Source: Srivastava et
/// al., JMLR 15, 2014.
Var dropout(const Var& x, double p, const RandomSite& site);

/// Causal multi-head attention; the T×T matrix is never stored. qkv [B, T, 3C]: queries, keys,
/// values, each of `heads` parts; y [B, T, C]. Dropout with probability p on the attention weights.
/// Source: Vaswani et al., arXiv 1706.03762; Dao et al., arXiv 2205.14135.
Var causal_attention(const Var& qkv, int64_t heads, double p, const RandomSite& site);
/// Turns queries and keys by their position. qkv [B, T, 3C]. Source: Su et al., arXiv 2104.09864.
Var rope(const Var& qkv, int64_t heads, double base = 10000);

/// Σ over valid targets of −log softmax(logits)[target], and their number. logits […, V]; targets
/// i32 […]; targets equal to `ignore` are left out.
Loss cross_entropy(const Var& logits, const Tensor& targets, int64_t ignore = -100);
/// The same of logits = hidden·headᵀ, computed in chunks of at most `chunk` rows, so that logits
/// never exist whole. hidden […, C]; head [V, C]. Costs one more product with the head where there
/// is more than one chunk. Source: Hsu et al., "Liger kernel", arXiv 2410.10989, for the idea of
/// chunks.
Loss cross_entropy(const Var& hidden, const Var& head, const Tensor& targets, int64_t ignore = -100,
                   int64_t chunk = 256);
/// Σ (x − target)² and the number of elements.
Loss mean_squared_error(const Var& x, const Tensor& target);

}  // namespace accrue
