// Matrix products: which route a product takes, and the f32 route.
#include "accrue/core/cpu/matmul.h"

#include <omp.h>

#include <algorithm>

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
void put_bias(const Product& p, int64_t row, int64_t rows, int64_t column, int64_t columns) {
  const T* bias = static_cast<const T*>(p.args.bias.data) + column * p.args.bias.strides[0];
  for (int64_t i = row; i < row + rows; ++i) {
    float* c = static_cast<float*>(p.args.c.data) + i * p.c.ld + column;
    for (int64_t j = 0; j < columns; ++j) {
      const float value = bias[j * p.args.bias.strides[0]];
      c[j] = p.add() ? c[j] + value : value;
    }
  }
}

/// The part of c at (row, column), by the calling thread and, outside a parallel region, its team.
dnnl_status_t sgemm_part(const Product& p, int64_t row, int64_t rows, int64_t column,
                         int64_t columns) {
  if (rows <= 0 || columns <= 0) return dnnl_success;
  if (p.args.bias)
    with_float(p.args.bias.dtype, [&]<class T>(T) { put_bias<T>(p, row, rows, column, columns); });
  const auto* a = static_cast<const float*>(p.args.a.data) + row * (p.a.transposed ? 1 : p.a.ld);
  const auto* b = static_cast<const float*>(p.args.b.data) + column * (p.b.transposed ? p.b.ld : 1);
  auto* c = static_cast<float*>(p.args.c.data) + row * p.c.ld + column;
  return dnnl_sgemm(p.a.transposed ? 'T' : 'N', p.b.transposed ? 'T' : 'N', rows, columns, p.K,
                    1.0f, a, p.a.ld, b, p.b.ld, p.add() || p.args.bias ? 1.0f : 0.0f, c, p.c.ld);
}

void activate_rows(const Product& p) {
  constexpr int64_t work_of_exp = 4;  // simple operations
  if (!p.activation) return;
  parallel_rows(p.M, p.N * work_of_exp,
                [&](int64_t first, int64_t last) { activate(p, first, last - first, 0, p.N); });
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
    return activate_rows(p);
  }
  int worst = dnnl_success;
#pragma omp parallel num_threads(threads) reduction(max : worst)
  {
    const int part = omp_get_thread_num(), parts = omp_get_num_threads();
    const int64_t total = columns ? p.N : p.M, grain = columns ? column_grain : row_grain;
    const int64_t first = share(total, grain, part, parts);
    const int64_t count = share(total, grain, part + 1, parts) - first;
    worst = columns ? sgemm_part(p, 0, p.M, first, count) : sgemm_part(p, first, count, 0, p.N);
    if (p.activation && columns) activate(p, 0, p.M, first, count);
    if (p.activation && !columns) activate(p, first, count, 0, p.N);
  }
  check_dnnl(static_cast<dnnl_status_t>(worst), "dnnl_sgemm");
}

namespace {

/// The rows of c and terms of the sum in `part` of a product.
kernel::Matmul part_of(const kernel::Matmul& whole, int64_t row, int64_t rows, int64_t term,
                       int64_t terms) {
  const auto move = [](auto* data, int64_t elements, DType dtype) {
    using Byte = std::conditional_t<std::is_const_v<std::remove_pointer_t<decltype(data)>>,
                                    const std::byte, std::byte>;
    return data ? static_cast<Byte*>(data) + elements * static_cast<int64_t>(size_of(dtype))
                : nullptr;
  };
  kernel::Matmul part = whole;
  part.a.data =
      move(whole.a.data, row * whole.a.strides[0] + term * whole.a.strides[1], whole.a.dtype);
  part.b.data = move(whole.b.data, term * whole.b.strides[0], whole.b.dtype);
  part.c.data = move(whole.c.data, row * whole.c.strides[0], whole.c.dtype);
  part.a.shape = {rows, terms};
  part.b.shape[0] = terms;
  part.c.shape[0] = rows;
  if (term > 0) {
    part.write = Write::add;
    part.bias = {};
  }
  return part;
}

/// Calls act(part) for the parts in which this product goes best. A weight's gradient in bf16 takes
/// a transposed copy of a; parts keep it in the second-level cache and its rows short (long rows at
/// a stride of a power of two share few cache sets).
template <class Act>
void for_each_part(const kernel::Matmul& args, const Act& act) {
  constexpr int64_t most_rows = 3072, most_terms = 512;
  const Product p(args);
  if (takes_tiles(p) || !p.a.transposed || args.b.packs || !p.plain(DType::bf16, DType::f32))
    return act(args);
  const auto even = [](int64_t total, int64_t most) {
    const int64_t parts = (total + most - 1) / most;
    return parts <= 1 ? total : (total / parts + 63) / 64 * 64;
  };
  const int64_t rows = even(p.M, most_rows), terms = even(p.K, most_terms);
  if (rows == p.M && terms == p.K) return act(args);
  for (int64_t row = 0; row < p.M; row += rows)
    for (int64_t term = 0; term < p.K; term += terms)
      act(part_of(args, row, std::min(rows, p.M - row), term, std::min(terms, p.K - term)));
}

size_t part_workspace(const kernel::Matmul& args) {
  const Product product(args);
  if (takes_tiles(product)) return tiles_workspace(product);
  if (const Primitive* primitive = find_primitive(product))
    return primitive_workspace(*primitive, product);
  if (product.plain(DType::f32, DType::f32)) return 0;
  return fallback_workspace(product);
}

void run_part(const kernel::Matmul& args, void* memory) {
  const Product product(args);
  if (product.M == 0 || product.N == 0) return;
  if (takes_tiles(product)) return multiply_tiles(product, memory);
  if (Primitive* primitive = find_primitive(product))
    return run_primitive(*primitive, product, memory);
  if (product.plain(DType::f32, DType::f32)) return sgemm(product);
  run_fallback(product, memory);
}

}  // namespace

size_t matmul_workspace(const kernel::Matmul& args) {
  size_t bytes = 0;
  for_each_part(args,
                [&](const kernel::Matmul& part) { bytes = std::max(bytes, part_workspace(part)); });
  return bytes;
}

void matmul(const kernel::Matmul& args, void* workspace) {
  for_each_part(args, [&](const kernel::Matmul& part) { run_part(part, workspace); });
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
  activate_rows(p);
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
