// Matrix products: which route a product takes, and the f32 route.
#include "accrue/core/cpu/kernels.h"

#include <omp.h>

#include <algorithm>

#include "accrue/core/cpu/dense.h"
#include "accrue/core/cpu/dispatch.h"
#include "accrue/core/cpu/matmul_parts.h"

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

namespace {

template <class T>
void add_bias(const Product& p, int64_t row, int64_t column, int64_t columns) {
  const int64_t step = p.args.bias.strides[0];
  const T* bias = static_cast<const T*>(p.args.bias.data) + column * step;
  float* c = static_cast<float*>(p.args.c.data) + row * p.c.ld + column;
  if (step == 1)
    by_register(0, columns, [=](int64_t j, auto mover) {
      mover.store(c + j, mover.load(c + j) + mover.load(bias + j));
    });
  else
    for (int64_t j = 0; j < columns; ++j) c[j] += to_float(bias[j * step]);
}

/// The part of c at (row, column), without its bias, by the calling thread and, outside a parallel
/// region, its team.
dnnl_status_t sgemm_part(const Product& p, int64_t row, int64_t rows, int64_t column,
                         int64_t columns) {
  if (rows <= 0 || columns <= 0) return dnnl_success;
  const auto* a = static_cast<const float*>(p.args.a.data) + row * (p.a.transposed ? 1 : p.a.ld);
  const auto* b = static_cast<const float*>(p.args.b.data) + column * (p.b.transposed ? p.b.ld : 1);
  auto* c = static_cast<float*>(p.args.c.data) + row * p.c.ld + column;
  return dnnl_sgemm(p.a.transposed ? 'T' : 'N', p.b.transposed ? 'T' : 'N', rows, columns, p.K,
                    1.0f, a, p.a.ld, b, p.b.ld, p.add() ? 1.0f : 0.0f, c, p.c.ld);
}

/// Bias and activation of that part, which lies in the cache: put there before, the bias would be
/// written to memory and read again.
void finish_part(const Product& p, int64_t row, int64_t rows, int64_t column, int64_t columns) {
  for (int64_t i = row; i < row + rows; ++i) {
    if (p.args.bias)
      with_float(p.args.bias.dtype, [&]<class T>(T) { add_bias<T>(p, i, column, columns); });
    if (p.activation) activate(p, i, 1, column, columns);
  }
}

void finish_rows(const Product& p) {
  if (!p.args.bias && !p.activation) return;
  parallel_rows(p.M, 4 * p.N,  // an exp is some four simple operations
                [&](int64_t first, int64_t last) { finish_part(p, first, last - first, 0, p.N); });
}

int64_t share(int64_t total, int64_t grain, int64_t part, int64_t parts) {
  return std::min(total, (total + grain - 1) / grain * part / parts * grain);
}

}  // namespace

void sgemm(const Product& p) {
  // Few threads do best with a private band of c each: one fork, no barrier inside. A band of rows
  // packs all of b, so where b must be transposed and is the larger one, bands are columns.
  constexpr int few = 8, row_grain = 8, column_grain = 48;  // the kernel's own tile
  const int threads = omp_in_parallel() ? 1 : omp_get_max_threads();
  const bool columns = p.b.transposed && p.N > p.M;
  const bool bands = threads > 1 && threads <= few &&
                     (columns ? p.N >= 2 * column_grain * threads : p.M >= 2 * row_grain * threads);
  if (!bands) {
    check_dnnl(sgemm_part(p, 0, p.M, 0, p.N), "dnnl_sgemm");
    return finish_rows(p);
  }
  int worst = dnnl_success;
#pragma omp parallel num_threads(threads) reduction(max : worst)
  {
    const int part = omp_get_thread_num(), parts = omp_get_num_threads();
    const int64_t total = columns ? p.N : p.M, grain = columns ? column_grain : row_grain;
    const int64_t first = share(total, grain, part, parts);
    const int64_t count = share(total, grain, part + 1, parts) - first;
    worst = columns ? sgemm_part(p, 0, p.M, first, count) : sgemm_part(p, first, count, 0, p.N);
    columns ? finish_part(p, 0, p.M, first, count) : finish_part(p, first, count, 0, p.N);
  }
  check_dnnl(static_cast<dnnl_status_t>(worst), "dnnl_sgemm");
}

size_t matmul_workspace(const kernel::Matmul& args) {
  const Product product(args);
  if (takes_tiles(product)) return tiles_workspace(product);
  if (const Primitive* primitive = find_primitive(product))
    return primitive_workspace(*primitive, product);
  if (product.plain(DType::f32, DType::f32)) return 0;
  return fallback_workspace(product);
}

void matmul(const kernel::Matmul& args, void* workspace) {
  const Product product(args);
  if (product.M == 0 || product.N == 0) return;
  if (takes_tiles(product)) return multiply_tiles(product, workspace);
  if (Primitive* primitive = find_primitive(product))
    return run_primitive(*primitive, product, workspace);
  if (product.plain(DType::f32, DType::f32)) return sgemm(product);
  run_fallback(product, workspace);
}

namespace {

kernel::Matmul product_of(const kernel::MatmulUnary& args) {
  return {args.a, args.b, args.z, Write::set, args.bias};
}
kernel::Matmul product_of(const kernel::MatmulUnaryBackward& args) {
  return {args.a, args.b, args.dz, Write::set};
}

void run_activated(const kernel::Matmul& args, const Activation& activation, void* workspace) {
  const Product p(args, &activation);
  if (p.M == 0 || p.N == 0) return;
  if (takes_tiles(p)) return multiply_tiles(p, workspace);
  if (p.plain(DType::f32, DType::f32) && !find_primitive(p)) return sgemm(p);
  matmul(args, workspace);
  kernel::Matmul done = args;
  done.bias = {};
  finish_rows(Product(done, &activation));
}

}  // namespace

size_t matmul_unary_workspace(const kernel::MatmulUnary& args) {
  return matmul_workspace(product_of(args));
}
size_t matmul_unary_backward_workspace(const kernel::MatmulUnaryBackward& args) {
  return matmul_workspace(product_of(args));
}

void matmul_unary(const kernel::MatmulUnary& args, void* workspace) {
  run_activated(product_of(args), {args.formula, {}, args.y}, workspace);
}
void matmul_unary_backward(const kernel::MatmulUnaryBackward& args, void* workspace) {
  run_activated(product_of(args), {args.formula, args.z, args.y}, workspace);
}

}  // namespace accrue::cpu
