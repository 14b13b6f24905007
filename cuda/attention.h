// Attention of the `cuda` backend: what a program may choose about it.
#pragma once
#include <string>

#include "accrue/core/kernels.h"

namespace accrue::cuda {

/// Whether attention without dropout may be cuDNN's, where it takes the shape. For the whole
/// process; on at first. Without it, or built without cuDNN's headers: own kernels, as with
/// dropout.
void allow_cudnn_attention(bool allowed);
bool cudnn_attention_is_allowed();
/// Why this call would not be cuDNN's; empty where it would be.
std::string why_not_cudnn(const kernel::Attention&);
std::string why_not_cudnn(const kernel::AttentionBackward&);

}  // namespace accrue::cuda
