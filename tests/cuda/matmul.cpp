// The CUDA backend's routes of matrix products, with plain loops in cuBLASLt's place.
#include <doctest/doctest.h>

#include <map>

#include "accrue/core/functors/elementwise.h"
#include "accrue/core/reference/elements.h"
#include "accrue/cuda/matmul_route.h"
#include "kernels/cases.h"

namespace accrue::test {
namespace {

cuda::RouteLimits limits;
int copies = 0;       // steps beside the product
int with_slopes = 0;  // products with gelu's slope in them

/// The product as cuBLASLt's manual says it, column-major. The sum is rounded once.
void multiply(const cuda::Gemm& g) {
  const auto at = [](bool transposed, int64_t row, int64_t column, int64_t ld) {
    return transposed ? column + row * ld : row + column * ld;
  };
  CHECK(g.lda >= (g.transpose_a ? g.terms : g.rows));
  CHECK(g.ldb >= (g.transpose_b ? g.columns : g.terms));
  CHECK(g.ldd >= g.rows);
  const bool has_slope = g.epilogue == cuda::Epilogue::gelu_slope;
  if (has_slope) CHECK(g.ldd % 8 == 0);
  if (has_slope) CHECK(reinterpret_cast<uintptr_t>(g.operand) % 16 == 0);
  for (int64_t i = 0; i < g.rows; ++i)
    for (int64_t j = 0; j < g.columns; ++j) {
      double sum = g.epilogue == cuda::Epilogue::bias ? reference::load(g.operand, i, g.out) : 0;
      for (int64_t k = 0; k < g.terms; ++k)
        sum += reference::load(g.a, at(g.transpose_a, i, k, g.lda), g.in) *
               reference::load(g.b, at(g.transpose_b, k, j, g.ldb), g.in);
      if (g.add) sum += reference::load(g.d, i + j * g.ldd, g.out);
      if (has_slope)
        sum *= functor::Gelu<functor::ExactMath>::slope(
            reference::load(g.operand, i + j * g.ldd, g.out));
      reference::store(g.d, i + j * g.ldd, g.out, sum);
    }
}

size_t workspace_of(const kernel::Matmul& args) {
  if (args.c.shape.elements() == 0) return 0;
  return cuda::route_of(args, nullptr, limits).bytes;
}

void run(const cuda::MatmulRoute& route) {
  const auto step = [](const auto& what) {
    if (what) launch(Device::reference(), *what), ++copies;
  };
  step(route.copy_a), step(route.copy_b), step(route.start), step(route.zero);
  if (route.gemm) multiply(*route.gemm);
  step(route.finish);
}

void run(const kernel::Matmul& args, void* workspace) {
  if (args.c.shape.elements() > 0) run(cuda::route_of(args, workspace, limits));
}

size_t workspace_of_slope(const kernel::MatmulUnaryBackward& args) {
  return workspace_of(cuda::product_of(args));
}

/// Only products with the slope in them; the others are left to the reference.
void run_with_slope(const kernel::MatmulUnaryBackward& args, void* workspace) {
  if (args.dz.shape.elements() == 0) return;
  cuda::MatmulRoute route = cuda::route_of(cuda::product_of(args), workspace, limits);
  route.gemm = cuda::with_slope(args, route);
  if (!route.gemm) return launch(Device::reference(), args);
  ++with_slopes;
  run(route);
  launch(Device::reference(), kernel::Unary{args.formula, args.z, args.y});
}

Backend backend_of_routes() {
  Backend backend = *Device::reference().backend;
  std::get<Kernel<kernel::Matmul>>(backend.kernels) = {workspace_of, run};
  std::get<Kernel<kernel::MatmulUnaryBackward>>(backend.kernels) = {workspace_of_slope,
                                                                    run_with_slope};
  return backend;
}

/// Copies and fills that a product of these takes.
int steps_of(const Tensor& a, const Tensor& b, Tensor c, Write write, const Tensor& bias = {}) {
  const Backend backend = backend_of_routes();
  copies = 0;
  launch({&backend}, kernel::Matmul{a.in(), b.in(), c.out(), write, bias ? bias.in() : In{}});
  return copies;
}

}  // namespace

TEST_CASE("every product's route gives the reference's numbers, whatever cuBLASLt is spared") {
  const Backend backend = backend_of_routes();
  const Row cases = row<kernel::Matmul>(matmul_cases());
  for (const cuda::RouteLimits attempt : cuda::route_attempts) {
    limits = attempt;
    // The other attempts differ in a few steps: every seventh case shows them.
    const size_t stride = attempt == cuda::RouteLimits{} ? 1 : 7;
    for (size_t i = 0; i < cases.cases.size(); i += stride) {
      const Case& test_case = cases.cases[i];
      if (test_case.name.find("257×300") != std::string::npos) continue;  // large, and nothing new
      const std::string found = mismatch(cases, test_case, {&backend}, {1});
      CHECK_MESSAGE(found.empty(), test_case.name << ": " << found);
    }
  }
  limits = {};
}

TEST_CASE("gelu's slope goes into products of bf16 whose rows hold a multiple of eight") {
  const Backend backend = backend_of_routes();
  const Row cases = row<kernel::MatmulUnaryBackward>(matmul_unary_backward_cases());
  std::map<bool, int> seen;
  for (const Case& test_case : cases.cases) {
    with_slopes = 0;
    const std::string found = mismatch(cases, test_case, {&backend}, {1});
    CHECK_MESSAGE(found.empty(), test_case.name << ": " << found);
    const bool bf16 = test_case.name.starts_with("bf16");
    const bool gelu = test_case.name.find("formula 0 ") != std::string::npos;
    if (!bf16 || !gelu) CHECK_MESSAGE(with_slopes == 0, test_case.name);
    ++seen[with_slopes > 0];
  }
  CHECK(seen[true] > 0);
  CHECK(seen[false] > 0);
}

TEST_CASE("a product without terms is its bias, or nothing") {
  const Backend backend = backend_of_routes();
  for (const Write write : both_writes)
    for (const bool with_bias : {false, true}) {
      const Case none{"no terms", [=](Stage& stage) {
                        const Tensor a({3, 0}, DType::f32, Device::reference());
                        const Tensor b({0, 5}, DType::f32, Device::reference());
                        const Tensor bias = stage.random({5}, DType::f32);
                        Tensor c = stage.out({3, 5}, DType::f32, write, {2});
                        stage.launch(kernel::Matmul{a.in(), b.in(), c.out(), write,
                                                    with_bias ? bias.in() : In{}});
                      }};
      CHECK(mismatch(row<kernel::Matmul>({none}), none, {&backend}, {1}).empty());
    }
}

TEST_CASE("the products of a training step take no copies") {
  const auto make = [](const Shape& shape, DType dtype) {
    Tensor tensor(shape, dtype, Device::reference());
    launch(Device::reference(), kernel::Fill{tensor.out(), 1});
    return tensor;
  };
  for (const DType dtype : activation_types) {
    const Tensor x = make({32, 16}, dtype), w = make({24, 16}, dtype), dy = make({32, 24}, dtype);
    const Tensor bias = make({24}, dtype);
    CHECK(steps_of(x, w.transpose(0, 1), make({32, 24}, dtype), Write::set, bias) == 0);
    CHECK(steps_of(dy, w, make({32, 16}, dtype), Write::add) == 0);
    CHECK(steps_of(dy.transpose(0, 1), x, make({24, 16}, DType::f32), Write::add) == 0);
  }
  // Negative control: factors of two dtypes need a copy.
  CHECK(steps_of(make({3, 8}, DType::f32), make({8, 5}, DType::bf16), make({3, 5}, DType::f32),
                 Write::set) == 1);
}

}  // namespace accrue::test
