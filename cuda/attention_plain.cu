// Attention without tensor cores, and the sums that every backward pass begins with.
#include "accrue/cuda/attention_launch.cuh"
#include "accrue/cuda/attention_launch.h"
#include "accrue/cuda/attention_plain.h"
#include "accrue/cuda/attention_route.h"

namespace accrue::cuda {
namespace {

template <class T, class Wide>
__global__ void __launch_bounds__(plain::threads, 2)
    plain_forward_kernel(const __grid_constant__ ForwardArgs<T, Wide> args) {
  __shared__ plain::Shared<Wide> shared;
  const DeviceLanes lanes;
  PlainForward<T, Wide, DeviceLanes>(lanes, args.sizes, shared).run(args);
}
template <class T, class Wide>
__global__ void __launch_bounds__(plain::threads, 2)
    plain_queries_kernel(const __grid_constant__ BackwardArgs<T, Wide> args) {
  __shared__ plain::Shared<Wide> shared;
  const DeviceLanes lanes;
  PlainBackward<T, Wide, DeviceLanes>(lanes, args.sizes, shared).run_queries(args);
}
template <class T, class Wide>
__global__ void __launch_bounds__(plain::threads, 2)
    plain_keys_kernel(const __grid_constant__ BackwardArgs<T, Wide> args) {
  __shared__ plain::Shared<Wide> shared;
  const DeviceLanes lanes;
  PlainBackward<T, Wide, DeviceLanes>(lanes, args.sizes, shared).run_keys(args);
}
template <class T, class Wide>
__global__ void __launch_bounds__(plain::threads, 2)
    dots_kernel(const __grid_constant__ BackwardArgs<T, Wide> args) {
  dot_rows(DeviceLanes(), args);
}

int64_t plain_blocks(const AttentionSizes& sizes) {
  return blocks_of(sizes, plain::rows) * plain::chunks_of(sizes.width);
}

}  // namespace

template <class T, class Wide>
void launch_plain_forward(const ForwardArgs<T, Wide>& args) {
  launch_blocks<plain_forward_kernel<T, Wide>>(plain_blocks(args.sizes), plain::threads, 0, args);
}
template <class T, class Wide>
void launch_plain_backward(const BackwardArgs<T, Wide>& args) {
  const int64_t blocks = plain_blocks(args.sizes);
  launch_blocks<plain_queries_kernel<T, Wide>>(blocks, plain::threads, 0, args);
  launch_blocks<plain_keys_kernel<T, Wide>>(blocks, plain::threads, 0, args);
}
template <class T, class Wide>
void launch_dots(const BackwardArgs<T, Wide>& args) {
  constexpr int rows = plain::threads / warp_size;
  const int64_t all = int64_t{args.sizes.samples} * args.sizes.heads * args.sizes.length;
  launch_blocks<dots_kernel<T, Wide>>((all + rows - 1) / rows, plain::threads, 0, args);
}

template void launch_plain_forward(const ForwardArgs<float, float>&);
template void launch_plain_forward(const ForwardArgs<double, double>&);
template void launch_plain_forward(const ForwardArgs<BFloat16, float>&);
template void launch_plain_forward(const ForwardArgs<Float16, float>&);
template void launch_plain_backward(const BackwardArgs<float, float>&);
template void launch_plain_backward(const BackwardArgs<double, double>&);
template void launch_plain_backward(const BackwardArgs<BFloat16, float>&);
template void launch_plain_backward(const BackwardArgs<Float16, float>&);
template void launch_dots(const BackwardArgs<float, float>&);
template void launch_dots(const BackwardArgs<double, double>&);
template void launch_dots(const BackwardArgs<BFloat16, float>&);
template void launch_dots(const BackwardArgs<Float16, float>&);

}  // namespace accrue::cuda
