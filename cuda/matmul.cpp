// Matrix products: copies where they are needed, and cuBLASLt.
#include "accrue/cuda/matmul.h"

#include "accrue/cuda/kernels.h"
#include "accrue/cuda/matmul_plan.h"

namespace accrue::cuda {
namespace {

struct Way {
  MatmulRoute route;
  const MatmulPlan* plan = nullptr;
};

/// The first route that cuBLASLt has an algorithm for.
Way find_way(const kernel::Matmul& args, void* workspace) {
  for (const RouteLimits limits : route_attempts) {
    Way way{route_of(args, workspace, limits)};
    if (!way.route.gemm) return way;
    way.plan = find_plan(*way.route.gemm);
    if (way.plan) return way;
  }
  throw Failure(text("[matmul] expected cuBLASLt to have an algorithm for ", args.a.shape, " ",
                     args.a.dtype, " times ", args.b.shape, " ", args.b.dtype, " into ",
                     args.c.dtype,
                     ", got none; try another dtype, or CUBLASLT_LOG_LEVEL=5 for its reasons"));
}

size_t bytes_of(const Way& way) { return way.route.bytes + (way.plan ? way.plan->workspace : 0); }

bool is_empty(const kernel::Matmul& args) { return args.c.shape.elements() == 0; }

size_t matmul_workspace(const kernel::Matmul& args) {
  return is_empty(args) ? 0 : bytes_of(find_way(args, nullptr));
}

void run(const Way& way, void* workspace) {
  const MatmulRoute& route = way.route;
  for (const auto& step : {route.copy_a, route.copy_b, route.start})
    if (step) copy(*step, nullptr);
  if (route.zero) fill(*route.zero, nullptr);
  if (route.gemm) run_plan(*way.plan, *route.gemm, static_cast<char*>(workspace) + route.bytes);
  if (route.finish) copy(*route.finish, nullptr);
}

void run_matmul(const kernel::Matmul& args, void* workspace) {
  if (!is_empty(args)) run(find_way(args, workspace), workspace);
}

size_t matmul_unary_workspace(const kernel::MatmulUnary& args) {
  return matmul_workspace(product_of(args));
}

// gelu is made from z as it was rounded, not in the product: backward makes the same bits from it.
void run_matmul_unary(const kernel::MatmulUnary& args, void* workspace) {
  run_matmul(product_of(args), workspace);
  unary({args.formula, args.z, args.y}, nullptr);
}

/// The way with gelu's slope in the product, where there is one.
Way find_way(const kernel::MatmulUnaryBackward& args, void* workspace) {
  Way way = find_way(product_of(args), workspace);
  const std::optional<Gemm> fused = with_slope(args, way.route);
  if (!fused) return way;
  if (const MatmulPlan* plan = find_plan(*fused)) way.route.gemm = fused, way.plan = plan;
  return way;
}

bool has_slope(const Way& way) {
  return way.route.gemm && way.route.gemm->epilogue == Epilogue::gelu_slope;
}

size_t matmul_unary_backward_workspace(const kernel::MatmulUnaryBackward& args) {
  return is_empty(product_of(args)) ? 0 : bytes_of(find_way(args, nullptr));
}

void run_matmul_unary_backward(const kernel::MatmulUnaryBackward& args, void* workspace) {
  if (is_empty(product_of(args))) return;
  const Way way = find_way(args, workspace);
  run(way, workspace);
  if (!has_slope(way))
    unary_backward({args.formula, args.z, args.dz, {args.dz, Write::set}}, nullptr);
  unary({args.formula, args.z, args.y}, nullptr);
}

}  // namespace

bool fuses_slope(const kernel::MatmulUnaryBackward& args) {
  return has_slope(find_way(args, nullptr));
}

const Kernel<kernel::Matmul> matmul{matmul_workspace, run_matmul};
const Kernel<kernel::MatmulUnary> matmul_unary{matmul_unary_workspace, run_matmul_unary};
const Kernel<kernel::MatmulUnaryBackward> matmul_unary_backward{matmul_unary_backward_workspace,
                                                                run_matmul_unary_backward};

}  // namespace accrue::cuda
