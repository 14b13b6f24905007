// What one thread of a block can do, on the device: the kernels' bodies are written against this
// interface, and the tests run the same bodies on a copy of it that works on the host.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "accrue/core/dtype.h"
#include "accrue/cuda/device_code.h"

namespace accrue::cuda {

struct DeviceLanes {
  __device__ __forceinline__ int thread() const { return static_cast<int>(threadIdx.x); }
  __device__ __forceinline__ int64_t block() const { return blockIdx.x; }
  __device__ __forceinline__ void sync() const { __syncthreads(); }

  /// The word or number of the lane whose index differs in these bits.
  template <class T>
  __device__ __forceinline__ T shuffle_xor(T value, int bits) const {
    return __shfl_xor_sync(0xffffffffu, value, bits);
  }

  /// Four 8 × 8 matrices of two-byte numbers; lane i names row i % 8 of matrix i / 8.
  __device__ __forceinline__ void load_matrices(uint32_t (&words)[4], const void* row) const {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(shared_address(row))
                 : "memory");
  }
  /// The same, each matrix transposed.
  __device__ __forceinline__ void load_transposed(uint32_t (&words)[4], const void* row) const {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(shared_address(row))
                 : "memory");
  }
  /// sum += left·right for the warp's 16 × 8 sum.
  template <class T>
  __device__ __forceinline__ void multiply(float (&sum)[4], const uint32_t (&left)[4],
                                           uint32_t right_0, uint32_t right_1) const;

  /// Begins to copy 16 bytes to shared memory, or zeroes them; both addresses aligned to 16.
  __device__ __forceinline__ void copy_16(void* shared, const void* from, bool valid) const {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(shared_address(shared)), "l"(from), "r"(valid ? 16 : 0)
                 : "memory");
  }
  /// The same for 4 bytes.
  __device__ __forceinline__ void copy_4(void* shared, const void* from, bool valid) const {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
                 :
                 : "r"(shared_address(shared)), "l"(from), "r"(valid ? 4 : 0)
                 : "memory");
  }
  /// Waits for this thread's copies.
  __device__ __forceinline__ void wait_for_copies() const {
    asm volatile("cp.async.wait_all;" ::: "memory");
  }

  __device__ __forceinline__ float exp2(float x) const {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));  // relative error 2⁻²²; exp2(−∞) = 0
    return y;
  }
  __device__ __forceinline__ float exp(float x) const { return expf(x); }
  __device__ __forceinline__ double exp(double x) const { return ::exp(x); }
  __device__ __forceinline__ float log(float x) const { return logf(x); }
  __device__ __forceinline__ double log(double x) const { return ::log(x); }

  /// Two numbers, rounded to nearest, in one word; `low` at the lower address.
  template <class T>
  __device__ __forceinline__ uint32_t pack(float low, float high) const;
  template <class Wide, class T>
  __device__ __forceinline__ Wide widen(T x) const;
  template <class T, class Wide>
  __device__ __forceinline__ T narrow(Wide x) const;

 private:
  __device__ __forceinline__ static uint32_t shared_address(const void* pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
  }
};

template <>
__device__ __forceinline__ void DeviceLanes::multiply<BFloat16>(float (&sum)[4],
                                                                const uint32_t (&left)[4],
                                                                uint32_t right_0,
                                                                uint32_t right_1) const {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_0), "r"(right_1));
}
template <>
__device__ __forceinline__ void DeviceLanes::multiply<Float16>(float (&sum)[4],
                                                               const uint32_t (&left)[4],
                                                               uint32_t right_0,
                                                               uint32_t right_1) const {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_0), "r"(right_1));
}

template <>
__device__ __forceinline__ uint32_t DeviceLanes::pack<BFloat16>(float low, float high) const {
  uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}
template <>
__device__ __forceinline__ uint32_t DeviceLanes::pack<Float16>(float low, float high) const {
  uint32_t word;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

template <class Wide, class T>
__device__ __forceinline__ Wide DeviceLanes::widen(T x) const {
  if constexpr (std::is_same_v<T, BFloat16>)
    return __uint_as_float(static_cast<uint32_t>(x.bits) << 16);
  else if constexpr (std::is_same_v<T, Float16>)
    return __half2float(__ushort_as_half(x.bits));
  else
    return x;
}
template <class T, class Wide>
__device__ __forceinline__ T DeviceLanes::narrow(Wide x) const {
  if constexpr (std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>) {
    T y;
    y.bits = static_cast<uint16_t>(pack<T>(static_cast<float>(x), 0.0f));
    return y;
  } else {
    return static_cast<T>(x);
  }
}

}  // namespace accrue::cuda
