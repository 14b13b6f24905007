// What the files of the matrix product share: the problem as BLAS sees it, and the routes.
#pragma once
#include <dnnl.h>

#include <source_location>

#include "accrue/core/kernels.h"

namespace accrue::cpu {

/// A matrix in memory: element (i, j) lies at i·ld + j, or at j·ld + i if transposed.
struct MatrixLayout {
  int64_t ld = 0;  // 0: the strides are neither
  bool transposed = false;

  auto operator<=>(const MatrixLayout&) const = default;
};

MatrixLayout layout_of(const Shape& shape, const Shape& strides);

/// What follows a product. z absent: y = f(c). z given: c = c·f′(z), y = f(z).
struct Activation {
  kernel::UnaryFormula formula;
  In z;
  Out y;
};

/// c [M, N] = or += a [M, K]·b [K, N] + bias.
struct Product {
  const kernel::Matmul& args;
  const Activation* activation;  // or null
  int64_t M, N, K;
  MatrixLayout a, b, c;

  explicit Product(const kernel::Matmul& args, const Activation* activation = nullptr);
  bool add() const { return args.write == Write::add; }
  /// Strides that BLAS and oneDNN can express, in dtypes (of a and b; of c).
  bool plain(DType in, DType out) const;
};

/// The product's activation for a part of c: by the thread that made the part, which its cache
/// holds.
void activate(const Product&, int64_t row, int64_t rows, int64_t column, int64_t columns);

/// Throws Failure naming the call, its code and its place unless `status` is success.
void check_dnnl(dnnl_status_t status, const char* call,
                std::source_location = std::source_location::current());

/// A oneDNN matmul primitive made for these shapes, strides, dtypes and threads.
class Primitive;
/// The primitive for this product, made at first use and kept by the thread; null where oneDNN has
/// none that is faster than the other routes.
Primitive* find_primitive(const Product&);
size_t primitive_workspace(const Primitive&, const Product&);
void run_primitive(Primitive&, const Product&, void* workspace);

/// Products of bf16 numbers where the CPU has matrix tiles; c is bf16 or f32.
bool takes_tiles(const Product&);
size_t tiles_workspace(const Product&);
void multiply_tiles(const Product&, void* workspace);

/// Everything else: dnnl_sgemm, where need be of copies of its factors in f32; the activation only
/// of a c that is f32 and plain.
size_t sgemm_workspace(const Product&);
void run_sgemm(const Product&, void* workspace);

}  // namespace accrue::cpu
