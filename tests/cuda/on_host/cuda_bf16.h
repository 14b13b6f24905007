// In the place of CUDA's header: bf16, rounded as accrue's own type rounds.
#pragma once
#include "accrue/core/dtype.h"
#include "cuda/on_host/cuda_runtime_api.h"

struct __nv_bfloat16 {
  uint16_t bits;
};
struct __nv_bfloat162 {
  __nv_bfloat16 low, high;
};
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  return {std::bit_cast<uint16_t>(accrue::BFloat16(x))};
}
inline uint16_t __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }
inline __nv_bfloat162 __floats2bfloat162_rn(float low, float high) {
  return {__float2bfloat16_rn(low), __float2bfloat16_rn(high)};
}
