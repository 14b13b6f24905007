// Numbers on the device: vectors of up to 16 bytes per access, and conversions.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstring>
#include <type_traits>

#include "accrue/core/kernels.h"

namespace accrue::cuda {

/// Of a block, where a kernel has no reason for another number.
constexpr int threads = 256;

/// What a dtype is computed in.
template <class T>
using WideOf = std::conditional_t<std::is_same_v<T, double>, double, float>;

/// How many numbers of this type 16 bytes hold.
template <class T>
constexpr int full_width = 16 / static_cast<int>(sizeof(T));

__device__ inline float widen(float x) { return x; }
__device__ inline double widen(double x) { return x; }
__device__ inline float widen(BFloat16 x) {
  return __uint_as_float(static_cast<uint32_t>(x.bits) << 16);
}
__device__ inline float widen(Float16 x) {
  __half_raw raw;
  raw.x = x.bits;
  return __half2float(__half(raw));
}

/// Rounded to nearest, ties to even; from double to the short formats by way of float.
template <class T, class Wide>
__device__ inline T narrow(Wide x) {
  if constexpr (std::is_same_v<T, BFloat16>)
    return std::bit_cast<BFloat16>(
        __bfloat16_as_ushort(__float2bfloat16_rn(static_cast<float>(x))));
  else if constexpr (std::is_same_v<T, Float16>)
    return std::bit_cast<Float16>(__half_as_ushort(__float2half_rn(static_cast<float>(x))));
  else
    return static_cast<T>(x);
}

/// One access to device memory, said outright: the compiler may split a vector whose parts come
/// from different branches.
__device__ inline void store_whole(uint4* to, const uint4& x) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(x.x), "r"(x.y), "r"(x.z),
               "r"(x.w)
               : "memory");
}
__device__ inline void store_whole(uint2* to, const uint2& x) {
  asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(to), "r"(x.x), "r"(x.y) : "memory");
}

/// V numbers as they lie in memory, moved by the widest accesses their alignment allows.
template <class T, int V>
struct Words {
  static constexpr int bytes = V * static_cast<int>(sizeof(T));
  using Word = std::conditional_t<
      bytes % 16 == 0, uint4,
      std::conditional_t<bytes == 8, uint2,
                         std::conditional_t<bytes == 4, uint32_t,
                                            std::conditional_t<bytes == 2, uint16_t, uint8_t>>>>;
  static constexpr int count = bytes / static_cast<int>(sizeof(Word));
  Word word[count];

  __device__ void load(const T* from) {
    const Word* words = reinterpret_cast<const Word*>(from);
#pragma unroll
    for (int i = 0; i < count; ++i) word[i] = words[i];
  }
  __device__ void store(T* to) const {
    Word* words = reinterpret_cast<Word*>(to);
#pragma unroll
    for (int i = 0; i < count; ++i) {
      if constexpr (bytes % 8 == 0)
        store_whole(words + i, word[i]);
      else
        words[i] = word[i];
    }
  }
  /// The same number V times.
  __device__ void repeat(T number) {
    T numbers[V];
#pragma unroll
    for (int i = 0; i < V; ++i) numbers[i] = number;
    std::memcpy(word, numbers, bytes);
  }
  template <class Wide>
  __device__ void widen(Wide (&x)[V]) const {
    T numbers[V];
    std::memcpy(numbers, word, bytes);
#pragma unroll
    for (int i = 0; i < V; ++i) x[i] = static_cast<Wide>(cuda::widen(numbers[i]));
  }
  template <class Wide>
  __device__ void narrow(const Wide (&x)[V]) {
    if constexpr (std::is_same_v<T, BFloat16> && V % 2 == 0) {  // two at once
      __nv_bfloat162 pairs[V / 2];
#pragma unroll
      for (int i = 0; i < V / 2; ++i)
        pairs[i] =
            __floats2bfloat162_rn(static_cast<float>(x[2 * i]), static_cast<float>(x[2 * i + 1]));
      std::memcpy(word, pairs, bytes);
    } else if constexpr (std::is_same_v<T, Float16> && V % 2 == 0) {
      __half2 pairs[V / 2];
#pragma unroll
      for (int i = 0; i < V / 2; ++i)
        pairs[i] =
            __floats2half2_rn(static_cast<float>(x[2 * i]), static_cast<float>(x[2 * i + 1]));
      std::memcpy(word, pairs, bytes);
    } else {
      T numbers[V];
#pragma unroll
      for (int i = 0; i < V; ++i) numbers[i] = cuda::narrow<T>(x[i]);
      std::memcpy(word, numbers, bytes);
    }
  }
};

/// V wide numbers from memory, and back.
template <int V, class T, class Wide>
__device__ inline void load(const T* from, Wide (&x)[V]) {
  Words<T, V> words;
  words.load(from);
  words.widen(x);
}
template <int V, class T, class Wide>
__device__ inline void store(T* to, const Wide (&x)[V]) {
  Words<T, V> words;
  words.narrow(x);
  words.store(to);
}

/// A number of any dtype, for what is read once or rarely.
template <class Wide>
__device__ inline Wide load_any(const void* data, int64_t i, DType dtype) {
  switch (dtype) {
    case DType::f32:
      return static_cast<Wide>(static_cast<const float*>(data)[i]);
    case DType::f64:
      return static_cast<Wide>(static_cast<const double*>(data)[i]);
    case DType::bf16:
      return static_cast<Wide>(widen(static_cast<const BFloat16*>(data)[i]));
    case DType::f16:
      return static_cast<Wide>(widen(static_cast<const Float16*>(data)[i]));
    case DType::i32:
      return static_cast<Wide>(static_cast<const int32_t*>(data)[i]);
    case DType::i64:
      return static_cast<Wide>(static_cast<const int64_t*>(data)[i]);
    case DType::u8:
      return static_cast<Wide>(static_cast<const uint8_t*>(data)[i]);
  }
  return 0;
}
template <class Wide>
__device__ inline void store_any(void* data, int64_t i, DType dtype, Wide value) {
  switch (dtype) {
    case DType::f32:
      static_cast<float*>(data)[i] = static_cast<float>(value);
      break;
    case DType::f64:
      static_cast<double*>(data)[i] = static_cast<double>(value);
      break;
    case DType::bf16:
      static_cast<BFloat16*>(data)[i] = narrow<BFloat16>(value);
      break;
    case DType::f16:
      static_cast<Float16*>(data)[i] = narrow<Float16>(value);
      break;
    case DType::i32:
      static_cast<int32_t*>(data)[i] = static_cast<int32_t>(value);
      break;
    case DType::i64:
      static_cast<int64_t*>(data)[i] = static_cast<int64_t>(value);
      break;
    case DType::u8:
      static_cast<uint8_t*>(data)[i] = static_cast<uint8_t>(value);
      break;
  }
}
/// Sets the number, or adds to it.
template <class Wide>
__device__ inline void put_any(void* data, int64_t i, DType dtype, Wide value, bool add) {
  store_any(data, i, dtype, add ? load_any<Wide>(data, i, dtype) + value : value);
}

/// A one-element tensor, or 1 where it is absent.
struct Scalar {
  const void* data = nullptr;
  DType dtype = DType::f32;

  Scalar() = default;
  explicit Scalar(const In& in) : data(in ? in.data : nullptr), dtype(in.dtype) {}
  template <class Wide>
  __device__ Wide value() const {
    return data ? load_any<Wide>(data, 0, dtype) : Wide{1};
  }
};

}  // namespace accrue::cuda
