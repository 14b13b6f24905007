// Which way a matrix product goes.
#include "accrue/cuda/matmul_route.h"

namespace accrue::cuda {
namespace {

constexpr size_t round_up(size_t size, size_t to) { return (size + to - 1) / to * to; }

/// How a matrix lies: ld elements from row to row, or, transposed, from column to column. 0: in
/// neither way.
struct MatrixLayout {
  int64_t ld = 0;
  bool transposed = false;
};
MatrixLayout layout_of(const Shape& shape, const Shape& strides) {
  const int64_t rows = shape[0], columns = shape[1];
  // A single row or column may have any stride along its size of 1.
  if ((strides[1] == 1 || columns == 1) && (rows == 1 || strides[0] >= columns))
    return {rows == 1 ? columns : strides[0], false};
  if ((strides[0] == 1 || rows == 1) && (columns == 1 || strides[1] >= rows))
    return {columns == 1 ? rows : strides[1], true};
  return {};
}

bool is_aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

/// Places in the workspace, one after the other.
class Workspace {
 public:
  explicit Workspace(void* base) : base_(reinterpret_cast<uintptr_t>(base)) {}

  /// A row-major matrix whose rows begin at multiples of 16 bytes.
  Out matrix(int64_t rows, int64_t columns, DType dtype) {
    const int64_t ld = static_cast<int64_t>(round_up(columns, 16 / size_of(dtype)));
    void* place = reinterpret_cast<void*>(base_ + bytes_);
    bytes_ += round_up(static_cast<size_t>(rows * ld) * size_of(dtype), 256);
    return {place, {rows, columns}, {ld, 1}, dtype};
  }
  size_t bytes() const { return bytes_; }

 private:
  uintptr_t base_;
  size_t bytes_ = 0;
};

/// A matrix that the product can take as it is.
bool fits(const In& x, DType dtype, bool aligned) {
  const MatrixLayout layout = layout_of(x.shape, x.strides);
  if (x.dtype != dtype || layout.ld == 0) return false;
  return !aligned || (is_aligned(x.data) && layout.ld * size_of(dtype) % 16 == 0);
}

/// The matrix itself, or its copy.
In taken(const In& x, DType dtype, bool aligned, Workspace& workspace,
         std::optional<kernel::Copy>& copy) {
  if (fits(x, dtype, aligned)) return x;
  const Out place = workspace.matrix(x.shape[0], x.shape[1], dtype);
  copy = kernel::Copy{x, place, Write::set};
  return place;
}

/// What both factors are read as.
DType common(DType a, DType b) {
  if (a == b) return a;
  return a == DType::f64 || b == DType::f64 ? DType::f64 : DType::f32;
}

Gemm column_major(const In& a, const In& b, const Out& c) {
  const MatrixLayout left = layout_of(a.shape, a.strides), right = layout_of(b.shape, b.strides);
  const MatrixLayout result = layout_of(c.shape, c.strides);
  Gemm gemm{};
  gemm.terms = a.shape[1], gemm.in = a.dtype, gemm.out = c.dtype;
  gemm.d = c.data, gemm.ldd = result.ld;
  if (result.transposed) {
    gemm.a = a.data, gemm.lda = left.ld, gemm.transpose_a = !left.transposed;
    gemm.b = b.data, gemm.ldb = right.ld, gemm.transpose_b = !right.transposed;
    gemm.rows = c.shape[0], gemm.columns = c.shape[1];
  } else {  // row-major c is column-major cᵀ = bᵀ·aᵀ
    gemm.a = b.data, gemm.lda = right.ld, gemm.transpose_a = right.transposed;
    gemm.b = a.data, gemm.ldb = left.ld, gemm.transpose_b = left.transposed;
    gemm.rows = c.shape[1], gemm.columns = c.shape[0];
  }
  return gemm;
}

MatmulRoute without_terms(const kernel::Matmul& args) {
  MatmulRoute route;
  if (args.bias)
    route.start = kernel::Copy{args.bias, args.c, args.write};
  else if (args.write == Write::set)
    route.zero = kernel::Fill{args.c, 0};
  return route;
}

}  // namespace

MatmulRoute route_of(const kernel::Matmul& args, void* workspace, RouteLimits limits) {
  if (args.a.shape[1] == 0) return without_terms(args);
  MatmulRoute route;
  Workspace memory(workspace);
  const DType in = common(args.a.dtype, args.b.dtype), sum = wide(in);
  const In a = taken(args.a, in, limits.aligned_rows, memory, route.copy_a);
  const In b = taken(args.b, in, limits.aligned_rows, memory, route.copy_b);

  const bool c_fits = (args.c.dtype == in || args.c.dtype == sum) &&
                      fits(args.c, args.c.dtype, limits.aligned_rows);
  const bool epilogue =
      args.bias && c_fits && !layout_of(args.c.shape, args.c.strides).transposed &&
      args.write == Write::set && args.bias.strides[0] == 1 && args.bias.dtype == args.c.dtype &&
      in != DType::f64 && is_aligned(args.bias.data);
  // A bias that the product cannot add comes first, into a place that does not round it.
  const bool direct = c_fits && (!args.bias || epilogue || args.c.dtype == sum);
  const Out d = direct ? args.c : memory.matrix(args.c.shape[0], args.c.shape[1], sum);
  route.gemm = column_major(a, b, d);
  route.gemm->add = direct && args.write == Write::add;
  if (epilogue) {
    route.gemm->epilogue = Epilogue::bias;
    route.gemm->operand = args.bias.data;
  } else if (args.bias) {
    route.start = kernel::Copy{args.bias, d, direct ? args.write : Write::set};
    route.gemm->add = true;
  }
  if (!direct) route.finish = kernel::Copy{d, args.c, args.write};
  route.bytes = memory.bytes();
  return route;
}

kernel::Matmul product_of(const kernel::MatmulUnary& args) {
  return {args.a, args.b, args.z, Write::set, args.bias};
}

kernel::Matmul product_of(const kernel::MatmulUnaryBackward& args) {
  return {args.a, args.b, args.dz, Write::set};
}

std::optional<Gemm> with_slope(const kernel::MatmulUnaryBackward& args, const MatmulRoute& route) {
  if (args.formula != kernel::UnaryFormula::gelu || args.z.dtype != DType::bf16) return {};
  if (!route.gemm || route.finish || !is_aligned(args.z.data)) return {};
  Gemm gemm = *route.gemm;
  gemm.epilogue = Epilogue::gelu_slope;
  gemm.operand = args.z.data;
  // dz and z are contiguous, so that both lie alike; the manual wants a multiple of 8.
  return gemm.ldd % 8 == 0 ? std::optional(gemm) : std::nullopt;
}

}  // namespace accrue::cuda
