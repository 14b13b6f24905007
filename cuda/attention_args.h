// The arguments of the attention kernels as the device takes them: pointers, strides and numbers.
#pragma once
#include "accrue/core/functors/host_device.h"
#include "accrue/core/philox.h"
#include "accrue/cuda/device_code.h"

namespace accrue::cuda {

/// A [B, T, H, D] tensor with a dense last dimension. Strides in elements.
template <class T>
struct Heads {
  T* data = nullptr;
  int64_t sample = 0, position = 0, head = 0;

  ACCRUE_DEVICE T* at(int b, int h) const { return data + b * sample + h * head; }
};

/// Keyed dropout of the softmax: a weight stays where 24 random bits reach the threshold.
struct DropoutArgs {
  const int64_t* samples = nullptr;
  int64_t stride = 0;  // of samples
  RandomKey key = {};
  uint32_t threshold = 0;
  double factor = 1;  // 1/(1 − p)
};

/// Sizes that every attention kernel needs.
struct AttentionSizes {
  int samples = 0, length = 0, heads = 0, width = 0;  // B, T, H, D
  double scale = 1;                                   // 1/√D
};

template <class T, class Wide>
struct ForwardArgs {
  AttentionSizes sizes;
  Heads<const T> q, k, v;
  Heads<T> y;
  Heads<Wide> logsum;  // one number per position
  DropoutArgs dropout;
};

template <class T, class Wide>
struct BackwardArgs {
  AttentionSizes sizes;
  Heads<const T> q, k, v, y, dy;
  Heads<T> dq, dk, dv;
  Heads<const Wide> logsum;
  Wide* dots;  // [B, H, T]: Σ_d dy·y, in the workspace
  bool add;
  DropoutArgs dropout;
};

}  // namespace accrue::cuda
