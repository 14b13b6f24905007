// The table of the `cuda` backend.
#include "accrue/cuda/graph.h"
#include "accrue/cuda/kernels.h"
#include "accrue/cuda/ranges.h"
#include "accrue/cuda/runtime.h"
#include "accrue/cuda/upload.h"

namespace accrue {
namespace {

template <class Args>
Kernel<Args> with(void (*run)(const Args&, void*), size_t (*workspace)(const Args&) = nullptr) {
  return {workspace, run};
}

}  // namespace

Device Device::cuda() {
  cuda::stream();  // throws where no GPU can be used
  // In the order of Kernels: the types of the arguments hold it.
  static const Backend table{"cuda",
                             &cuda::allocator(),
                             is_floating,
                             {cuda::matmul,
                              with(cuda::copy),
                              with(cuda::sum_to, cuda::sum_to_workspace),
                              with(cuda::fill),
                              with(cuda::binary),
                              with(cuda::unary),
                              with(cuda::unary_backward),
                              cuda::matmul_unary,
                              cuda::matmul_unary_backward,
                              with(cuda::scale),
                              with(cuda::norm),
                              with(cuda::norm_backward, cuda::norm_backward_workspace),
                              with(cuda::dropout),
                              cuda::attention,
                              cuda::attention_backward,
                              with(cuda::rope, cuda::rope_workspace),
                              with(cuda::embedding),
                              with(cuda::embedding_backward, cuda::embedding_backward_workspace),
                              with(cuda::cross_entropy, cuda::cross_entropy_workspace),
                              with(cuda::cross_entropy_backward),
                              with(cuda::count_targets, cuda::count_targets_workspace),
                              with(cuda::squared_error, cuda::squared_error_workspace),
                              with(cuda::squared_error_backward),
                              with(cuda::dot, cuda::dot_workspace),
                              with(cuda::sgd),
                              with(cuda::adam),
                              with(cuda::map<fold::Add>),
                              with(cuda::map<fold::AddTwo>),
                              with(cuda::map<fold::AddThree>),
                              with(cuda::map<fold::Kahan>),
                              with(cuda::map<fold::Average>),
                              with(cuda::map<fold::Swap>),
                              with(cuda::stochastic_add),
                              with(cuda::fixed_point_add, cuda::fixed_point_add_workspace)},
                             cuda::to_host,
                             cuda::from_host,
                             &cuda::graph_calls,
                             cuda::range_calls(),
                             cuda::make_upload};
  return {&table};
}

bool Device::has_cuda() { return cuda::has_device(); }

}  // namespace accrue
