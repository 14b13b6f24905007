// Matrix products: copies where they are needed, and cuBLASLt.
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

bool is_empty(const kernel::Matmul& args) { return args.c.shape.elements() == 0; }

size_t matmul_workspace(const kernel::Matmul& args) {
  if (is_empty(args)) return 0;
  const Way way = find_way(args, nullptr);
  return way.route.bytes + (way.plan ? way.plan->workspace : 0);
}

void run_matmul(const kernel::Matmul& args, void* workspace) {
  if (is_empty(args)) return;
  const Way way = find_way(args, workspace);
  const MatmulRoute& route = way.route;
  for (const auto& step : {route.copy_a, route.copy_b, route.start})
    if (step) copy(*step, nullptr);
  if (route.zero) fill(*route.zero, nullptr);
  if (route.gemm) run_plan(*way.plan, *route.gemm, static_cast<char*>(workspace) + route.bytes);
  if (route.finish) copy(*route.finish, nullptr);
}

/// The product in MatmulUnary or MatmulUnaryBackward.
kernel::Matmul product_of(const kernel::MatmulUnary& args) {
  return {args.a, args.b, args.z, Write::set, args.bias};
}
kernel::Matmul product_of(const kernel::MatmulUnaryBackward& args) {
  return {args.a, args.b, args.dz, Write::set};
}

template <class Args>
size_t workspace_of_product(const Args& args) {
  return matmul_workspace(product_of(args));
}

void run_matmul_unary(const kernel::MatmulUnary& args, void* workspace) {
  run_matmul(product_of(args), workspace);
  unary({args.formula, args.z, args.y}, nullptr);
}

void run_matmul_unary_backward(const kernel::MatmulUnaryBackward& args, void* workspace) {
  run_matmul(product_of(args), workspace);
  unary_backward({args.formula, args.z, args.dz, {args.dz, Write::set}}, nullptr);
  unary({args.formula, args.z, args.y}, nullptr);
}

}  // namespace

const Kernel<kernel::Matmul> matmul{matmul_workspace, run_matmul};
const Kernel<kernel::MatmulUnary> matmul_unary{workspace_of_product, run_matmul_unary};
const Kernel<kernel::MatmulUnaryBackward> matmul_unary_backward{workspace_of_product,
                                                                run_matmul_unary_backward};

}  // namespace accrue::cuda
