// What a program may choose about cuda/, where it is not built.
#include "accrue/core/error.h"
#include "accrue/cuda/attention.h"
#include "accrue/cuda/matmul.h"

namespace accrue::cuda {

void allow_tf32(bool allowed) {
  if (allowed)
    throw Failure(
        "[matmul] expected a build with CUDA for tf32, got one without; configure with "
        "-DACCRUE_CUDA=ON and a CUDA compiler, or try f32");
}
bool tf32_is_allowed() { return false; }
bool fuses_slope(const kernel::MatmulUnaryBackward&) { return false; }

void allow_cudnn_attention(bool) {}
bool cudnn_attention_is_allowed() { return false; }
std::string why_not_cudnn(const kernel::Attention&) { return "built without CUDA"; }
std::string why_not_cudnn(const kernel::AttentionBackward&) { return "built without CUDA"; }

}  // namespace accrue::cuda
