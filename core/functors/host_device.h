// ACCRUE_HD marks functions that run on the host and on a GPU.
#pragma once

#ifdef __CUDACC__
#define ACCRUE_HD __host__ __device__
#else
#define ACCRUE_HD
#endif
