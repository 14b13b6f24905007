// Attention by cuDNN's fused graphs: no dropout, and gradients are set, never added.
#pragma once
#include <optional>
#include <string>

#include "accrue/core/kernels.h"

namespace accrue::cuda {

/// Bytes of workspace where cuDNN takes it; nothing where it does not, or is not to be used. The
/// plan is made here and kept by shape, strides and dtype. Deterministic.
std::optional<size_t> cudnn_workspace(const kernel::Attention&);
std::optional<size_t> cudnn_workspace(const kernel::AttentionBackward&);

/// Why it has no workspace, in cuDNN's words where they are its own; empty where it has one.
std::string cudnn_refusal(const kernel::Attention&);
std::string cudnn_refusal(const kernel::AttentionBackward&);

/// Enqueues on stream() what has a workspace. Throws Failure.
void run_cudnn(const kernel::Attention&, void* workspace);
void run_cudnn(const kernel::AttentionBackward&, void* workspace);

}  // namespace accrue::cuda
