// In the place of CUDA's header: f16, rounded as accrue's own type rounds.
#pragma once
#include "accrue/core/dtype.h"
#include "cuda/on_host/cuda_runtime_api.h"

struct __half_raw {
  uint16_t x;
};
struct __half {
  uint16_t bits;
  __half() = default;
  explicit __half(__half_raw raw) : bits(raw.x) {}
};
struct __half2 {
  __half low, high;
};
inline float __half2float(__half x) { return std::bit_cast<accrue::Float16>(x.bits); }
inline __half __float2half_rn(float x) {
  return __half(__half_raw{std::bit_cast<uint16_t>(accrue::Float16(x))});
}
inline uint16_t __half_as_ushort(__half x) { return x.bits; }
inline __half2 __floats2half2_rn(float low, float high) {
  return {__float2half_rn(low), __float2half_rn(high)};
}
