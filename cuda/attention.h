// Attention of the `cuda` backend: what a program may choose about it.
#pragma once
#include "accrue/core/kernels.h"

namespace accrue::cuda {

/// Whether attention without dropout may be cuDNN's, where it takes the shape. For the whole
/// process; on at first. Without it, or built without cuDNN's headers: own kernels, as with
/// dropout.
void allow_cudnn_attention(bool allowed);
bool cudnn_attention_is_allowed();
/// Whether this call would be cuDNN's.
bool is_for_cudnn(const kernel::Attention&);
bool is_for_cudnn(const kernel::AttentionBackward&);

}  // namespace accrue::cuda
