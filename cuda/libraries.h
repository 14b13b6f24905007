// Checks of cuBLASLt's and cuDNN's calls.
#pragma once
#include <cublasLt.h>
#include <cudnn_version.h>

#include "accrue/cuda/check.h"

namespace accrue::cuda {

inline void check_cublas(cublasStatus_t status, const char* call, const char* file, int line) {
  if (status == CUBLAS_STATUS_SUCCESS) [[likely]]
    return;
  throw Failure(text("[cublasLt] expected ", call, " to succeed, got ",
                     cublasLtGetStatusName(status), " (", cublasLtGetStatusString(status), ") at ",
                     file_name(file), ":", line,
                     "; try CUBLASLT_LOG_LEVEL=5 for the library's own words"));
}

}  // namespace accrue::cuda

#define CUBLAS_CHECK(call) ::accrue::cuda::check_cublas((call), #call, __FILE__, __LINE__)
