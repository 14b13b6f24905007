// Fused causal attention, rotary positions and keyed dropout of the `cpu` backend, in f32, bf16 and
// f16. The contracts are those of kernels.h. Results do not depend on the number of threads.
#pragma once
#include "accrue/core/kernels.h"

namespace accrue::cpu {

/// Bytes of scratch: a few rows of one head per thread, whatever the batch.
size_t attention_workspace(const kernel::Attention&);
/// Flash style (Dao et al., arXiv 2205.14135): blocks of queries against blocks of keys with a
/// running maximum; blocks above the diagonal are skipped. Sums are f32 in every dtype.
void attention(const kernel::Attention&, void* workspace);

size_t attention_backward_workspace(const kernel::AttentionBackward&);
/// Recomputes the probabilities from logsum, block by block; one thread does one head.
void attention_backward(const kernel::AttentionBackward&, void* workspace);

void rope(const kernel::Rope&, void*);
void dropout(const kernel::Dropout&, void*);

}  // namespace accrue::cpu
