// From kernel::Matmul to one column-major product as cuBLASLt takes it, and the copies before and
// after it that odd layouts and mixed dtypes need. Pure arithmetic: the tests run it on the host.
#pragma once
#include <optional>

#include "accrue/core/kernels.h"

namespace accrue::cuda {

/// What a product does to its sums before it stores them, with `operand`: adds the bias [rows], or
/// multiplies by gelu′(z), z as d lies.
enum class Epilogue : uint8_t { none, bias, gelu_slope };

/// d = or += op(a)·op(b), all column-major; d [rows, columns]. Epilogues set.
struct Gemm {
  const void *a, *b, *operand;
  void* d;
  int64_t rows, columns, terms, lda, ldb, ldd;
  bool transpose_a, transpose_b, add;
  DType in, out;
  Epilogue epilogue;
};

struct MatmulRoute {
  std::optional<kernel::Copy> copy_a, copy_b;  // into the workspace, where the product reads them
  std::optional<kernel::Copy> start;           // bias into d
  std::optional<Gemm> gemm;                    // absent where there are no terms
  std::optional<kernel::Fill> zero;            // c, without terms and bias
  std::optional<kernel::Copy> finish;          // d from the workspace into c
  size_t bytes = 0;                            // of workspace for the copies
};

/// What cuBLASLt may be spared where it has no algorithm for a product as it is.
struct RouteLimits {
  bool separate_bias = false;  // no bias in the product itself
  bool aligned_rows = false;   // rows (or columns) that begin at multiples of 16 bytes
  bool operator==(const RouteLimits&) const = default;
};
constexpr RouteLimits route_attempts[] = {{}, {true, false}, {true, true}};

/// The way of a product of at least one row and column. `workspace` may be null: the route is the
/// same then, but for the places in it. Source of what cuBLASLt takes: its manual,
/// cublasLtMatmul().
MatmulRoute route_of(const kernel::Matmul&, void* workspace, RouteLimits);

/// The product in it.
kernel::Matmul product_of(const kernel::MatmulUnary&);
kernel::Matmul product_of(const kernel::MatmulUnaryBackward&);

/// The route's product with gelu's slope in it, where cuBLASLt may have one: of gelu in bf16, whose
/// rounding is coarser than any tanh of a GPU. Source: its manual, CUBLASLT_EPILOGUE_DGELU.
std::optional<Gemm> with_slope(const kernel::MatmulUnaryBackward&, const MatmulRoute&);

}  // namespace accrue::cuda
