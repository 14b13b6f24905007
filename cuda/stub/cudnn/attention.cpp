// In place of cuda/cudnn/ where cuDNN's header library is not found: own kernels take all calls.
#include "accrue/cuda/attention_cudnn.h"

namespace accrue::cuda {

std::optional<size_t> cudnn_workspace(const kernel::Attention&) { return {}; }
std::optional<size_t> cudnn_workspace(const kernel::AttentionBackward&) { return {}; }
std::string cudnn_refusal(const kernel::Attention&) { return "built without cuDNN's headers"; }
std::string cudnn_refusal(const kernel::AttentionBackward&) {
  return "built without cuDNN's headers";
}
void run_cudnn(const kernel::Attention&, void*) {}
void run_cudnn(const kernel::AttentionBackward&, void*) {}

}  // namespace accrue::cuda
