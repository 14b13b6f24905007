// Attention: which kernels take a call.
#include "accrue/cuda/attention.h"

#include <atomic>

#include "accrue/cuda/attention_cudnn.h"
#include "accrue/cuda/attention_launch.h"
#include "accrue/cuda/attention_route.h"
#include "accrue/cuda/kernels.h"

namespace accrue::cuda {
namespace {

std::atomic<bool> cudnn_allowed = true;

bool is_empty(const In& x) { return x.shape.elements() == 0; }

size_t forward_workspace(const kernel::Attention& a) {
  return is_empty(a.q) ? 0 : cudnn_workspace(a).value_or(0);
}

void forward(const kernel::Attention& a, void* workspace) {
  if (is_empty(a.q)) return;
  if (cudnn_workspace(a)) return run_cudnn(a, workspace);
  with_formats(a.q.dtype, [&]<class T, class Wide>(T, Wide) {
    const auto args = args_of<T, Wide>(a);
    if constexpr (sizeof(T) == 2)
      if (fits_tensor_cores(a)) return launch_forward(args);
    launch_plain_forward(args);
  });
}

size_t backward_workspace(const kernel::AttentionBackward& a) {
  return is_empty(a.q) ? 0 : cudnn_workspace(a).value_or(dots_bytes(a));
}

void backward(const kernel::AttentionBackward& a, void* workspace) {
  if (is_empty(a.q)) return;
  if (cudnn_workspace(a)) return run_cudnn(a, workspace);
  with_formats(a.q.dtype, [&]<class T, class Wide>(T, Wide) {
    const auto args = args_of<T, Wide>(a, workspace);
    launch_dots(args);
    if constexpr (sizeof(T) == 2)
      if (fits_tensor_cores(a)) return launch_backward(args);
    launch_plain_backward(args);
  });
}

}  // namespace

void allow_cudnn_attention(bool allowed) { cudnn_allowed = allowed; }
bool cudnn_attention_is_allowed() { return cudnn_allowed; }
std::string why_not_cudnn(const kernel::Attention& a) { return cudnn_refusal(a); }
std::string why_not_cudnn(const kernel::AttentionBackward& a) { return cudnn_refusal(a); }

const Kernel<kernel::Attention> attention{forward_workspace, forward};
const Kernel<kernel::AttentionBackward> attention_backward{backward_workspace, backward};

}  // namespace accrue::cuda
