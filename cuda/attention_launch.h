// Launches of the attention kernels; each is defined in the .cu file of its name.
#pragma once
#include "accrue/core/dtype.h"
#include "accrue/cuda/attention_args.h"

namespace accrue::cuda {

/// On tensor cores. T: BFloat16, Float16.
template <class T>
void launch_forward(const ForwardArgs<T, float>&);
template <class T>
void launch_backward(const BackwardArgs<T, float>&);

/// In any format; Wide: double for double, else float.
template <class T, class Wide>
void launch_plain_forward(const ForwardArgs<T, Wide>&);
template <class T, class Wide>
void launch_plain_backward(const BackwardArgs<T, Wide>&);
/// BackwardArgs::dots, which both backward passes read.
template <class T, class Wide>
void launch_dots(const BackwardArgs<T, Wide>&);

}  // namespace accrue::cuda
