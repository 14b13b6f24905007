// The table, and what the kernels need of the rest of cuda/. Built, as they are, with another name
// for the namespace accrue::cuda (see rename.h).
#include "cuda/on_host/backend.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "accrue/cuda/check.h"
#include "accrue/cuda/kernels.h"
#include "accrue/cuda/radix_sort.h"
#include "accrue/cuda/runtime.h"

namespace accrue::cuda {

cudaStream_t stream() { return nullptr; }

void fail(cudaError_t, const char* call, const char* file, int line) {
  throw Failure(text("[cuda] ", call, " failed, ", file, ":", line));
}

size_t sort_workspace(int64_t) { return 0; }
void sort_pairs(void*, size_t, const int32_t* keys, int32_t* sorted_keys, const int32_t* values,
                int32_t* sorted_values, int64_t count, int bits) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  const auto key = [&](int64_t i) { return keys[i] & ((int64_t{1} << bits) - 1); };
  std::ranges::stable_sort(order, {}, key);
  for (int64_t i = 0; i < count; ++i)
    sorted_keys[i] = keys[order[i]], sorted_values[i] = values[order[i]];
}

}  // namespace accrue::cuda

namespace accrue::test {

Device cuda_on_host() {
  static const Backend table = [] {
    const Kernels& others = Device::reference().backend->kernels;
    Backend made{"cuda on the host", &host_allocator(), is_floating, {}};
    const auto keep = [&]<class Args>(const Kernel<Args>& kernel) {
      std::get<Kernel<Args>>(made.kernels) = kernel;
    };
    keep(std::get<Kernel<kernel::Matmul>>(others));
    keep(std::get<Kernel<kernel::MatmulUnary>>(others));
    keep(std::get<Kernel<kernel::MatmulUnaryBackward>>(others));
    keep(std::get<Kernel<kernel::Attention>>(others));
    keep(std::get<Kernel<kernel::AttentionBackward>>(others));
    const auto take = [&]<class Args>(void (*run)(const Args&, void*),
                                      size_t (*workspace)(const Args&) = nullptr) {
      std::get<Kernel<Args>>(made.kernels) = {workspace, run};
    };
    take(cuda::copy), take(cuda::scale), take(cuda::fill);
    take(cuda::sum_to, cuda::sum_to_workspace);
    take(cuda::binary), take(cuda::unary), take(cuda::unary_backward);
    take(cuda::norm), take(cuda::norm_backward, cuda::norm_backward_workspace);
    take(cuda::dropout), take(cuda::rope, cuda::rope_workspace);
    take(cuda::embedding);
    take(cuda::embedding_backward, cuda::embedding_backward_workspace);
    take(cuda::cross_entropy, cuda::cross_entropy_workspace);
    take(cuda::cross_entropy_backward);
    take(cuda::count_targets, cuda::count_targets_workspace);
    take(cuda::squared_error, cuda::squared_error_workspace);
    take(cuda::squared_error_backward);
    take(cuda::dot, cuda::dot_workspace);
    take(cuda::sgd), take(cuda::adam);
    take(cuda::map<fold::Add>), take(cuda::map<fold::AddTwo>), take(cuda::map<fold::AddThree>);
    take(cuda::map<fold::Kahan>), take(cuda::map<fold::Average>), take(cuda::map<fold::Swap>);
    take(cuda::stochastic_add);
    take(cuda::fixed_point_add, cuda::fixed_point_add_workspace);
    return made;
  }();
  return {&table};
}

}  // namespace accrue::test
