// Matrix products: which route a product takes.
#include "accrue/core/cpu/kernels.h"
#include "accrue/core/cpu/matmul_parts.h"
#include "accrue/core/cpu/vector.h"

namespace accrue::cpu {

MatrixLayout layout_of(const Shape& shape, const Shape& strides) {
  const int64_t rows = shape[0], columns = shape[1];
  // A single row or column may have any stride along its size of 1.
  if ((strides[1] == 1 || columns == 1) && (rows == 1 || strides[0] >= columns))
    return {rows == 1 ? columns : strides[0], false};
  if ((strides[0] == 1 || rows == 1) && (columns == 1 || strides[1] >= rows))
    return {columns == 1 ? rows : strides[1], true};
  return {};
}

Product::Product(const kernel::Matmul& args, const Activation* activation)
    : args(args),
      activation(activation),
      M(args.c.shape[0]),
      N(args.c.shape[1]),
      K(args.a.shape[1]),
      a(layout_of(args.a.shape, args.a.strides)),
      b(layout_of(args.b.shape, args.b.strides)),
      c(layout_of(args.c.shape, args.c.strides)) {}

bool Product::plain(DType in, DType out) const {
  return args.a.dtype == in && args.b.dtype == in && args.c.dtype == out && a.ld && b.ld && c.ld &&
         !c.transposed;
}

void check_dnnl(dnnl_status_t status, const char* call, std::source_location place) {
  if (status == dnnl_success) return;
  throw Failure(text("[matmul] expected ", call, " to succeed, got oneDNN status ",
                     static_cast<int>(status), " at ", place.file_name(), ":", place.line(),
                     "; try DNNL_VERBOSE=1 for oneDNN's own words"));
}

size_t matmul_workspace(const kernel::Matmul& args) {
  const Product product(args);
  if (takes_tiles(product)) return tiles_workspace(product);
  if (const Primitive* found = find_primitive(product)) return primitive_workspace(*found, product);
  return sgemm_workspace(product);
}

void matmul(const kernel::Matmul& args, void* workspace) {
  const Product product(args);
  if (product.M == 0 || product.N == 0) return;
  if (takes_tiles(product)) return multiply_tiles(product, workspace);
  if (Primitive* found = find_primitive(product)) return run_primitive(*found, product, workspace);
  run_sgemm(product, workspace);
}

namespace {

void run_activated(const kernel::Matmul& args, const Activation& activation, void* workspace) {
  const Product p(args, &activation);
  if (p.M == 0 || p.N == 0) return;
  if (takes_tiles(p)) return multiply_tiles(p, workspace);
  if (p.plain(DType::f32, DType::f32) && !find_primitive(p)) return run_sgemm(p, workspace);
  matmul(args, workspace);
  parallel_rows(p.M, 4 * p.N,
                [&](int64_t first, int64_t last) { activate(p, first, last - first, 0, p.N); });
}

}  // namespace

size_t matmul_unary_workspace(const kernel::MatmulUnary& args) {
  return matmul_workspace({args.a, args.b, args.z, Write::set, args.bias});
}
size_t matmul_unary_backward_workspace(const kernel::MatmulUnaryBackward& args) {
  return matmul_workspace({args.a, args.b, args.dz, Write::set});
}

void matmul_unary(const kernel::MatmulUnary& args, void* workspace) {
  const kernel::Matmul product{args.a, args.b, args.z, Write::set, args.bias};
  run_activated(product, {args.formula, {}, args.y}, workspace);
}
void matmul_unary_backward(const kernel::MatmulUnaryBackward& args, void* workspace) {
  run_activated({args.a, args.b, args.dz, Write::set}, {args.formula, args.z, args.y}, workspace);
}

}  // namespace accrue::cpu
