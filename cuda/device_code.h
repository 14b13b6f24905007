// Words for code that a CUDA compiler builds for the device and any other for the host, where the
// tests run it.
#pragma once
#ifdef __CUDACC__
#define ACCRUE_DEVICE __device__ __forceinline__
#define ACCRUE_UNROLL _Pragma("unroll")
#else
#define ACCRUE_DEVICE inline
#define ACCRUE_UNROLL
#endif
