// Kernels in which every element stands alone.
#include <cmath>
#include <numbers>

#include "accrue/core/reference/elements.h"
#include "accrue/core/reference/kernels.h"

namespace accrue::reference {
namespace {

using kernel::UnaryFormula;

const double gelu_slope = std::sqrt(2 / std::numbers::pi);
constexpr double gelu_cubic = 0.044715;

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

double value_of(UnaryFormula formula, double x) {
  switch (formula) {
    case UnaryFormula::gelu:
      return x / 2 * (1 + std::tanh(gelu_slope * (x + gelu_cubic * x * x * x)));
    case UnaryFormula::silu:
      return x * sigmoid(x);
    case UnaryFormula::relu:
      return x > 0 ? x : 0;
    case UnaryFormula::tanh:
      return std::tanh(x);
  }
  return 0;
}

double derivative_of(UnaryFormula formula, double x) {
  switch (formula) {
    case UnaryFormula::gelu: {
      const double t = std::tanh(gelu_slope * (x + gelu_cubic * x * x * x));
      return (1 + t) / 2 + x / 2 * (1 - t * t) * gelu_slope * (1 + 3 * gelu_cubic * x * x);
    }
    case UnaryFormula::silu:
      return sigmoid(x) * (1 + x * (1 - sigmoid(x)));
    case UnaryFormula::relu:
      return x > 0 ? 1 : 0;
    case UnaryFormula::tanh:
      return 1 - std::tanh(x) * std::tanh(x);
  }
  return 0;
}

}  // namespace

void copy(const kernel::Copy& args, void*) {
  const Reader from(stretch(args.from, args.to.shape));
  const Writer to(args.to, args.write);
  for (int64_t e = 0; e < args.to.shape.elements(); ++e) to.write(e, from[e]);
}

void fill(const kernel::Fill& args, void*) {
  const Writer to(args.to, Write::set);
  for (int64_t e = 0; e < args.to.shape.elements(); ++e) to.write(e, args.value);
}

void binary(const kernel::Binary& args, void*) {
  const Reader a(stretch(args.a, args.y.shape)), b(stretch(args.b, args.y.shape));
  const Writer y(args.y, args.write);
  const bool adds = args.formula == kernel::BinaryFormula::add;
  for (int64_t e = 0; e < args.y.shape.elements(); ++e)
    y.write(e, adds ? a[e] + b[e] : a[e] * b[e]);
}

void unary(const kernel::Unary& args, void*) {
  const Reader x(args.x);
  const Writer y(args.y, Write::set);
  for (int64_t e = 0; e < args.x.shape.elements(); ++e) y.write(e, value_of(args.formula, x[e]));
}

void unary_backward(const kernel::UnaryBackward& args, void*) {
  const Reader x(args.x), dy(args.dy);
  const Writer dx(args.dx);
  for (int64_t e = 0; e < args.x.shape.elements(); ++e)
    dx.write(e, derivative_of(args.formula, x[e]) * dy[e]);
}

void matmul_unary(const kernel::MatmulUnary& args, void*) {
  matmul({args.a, args.b, args.z, Write::set, args.bias}, nullptr);
  unary({args.formula, args.z, args.y}, nullptr);
}

void matmul_unary_backward(const kernel::MatmulUnaryBackward& args, void*) {
  matmul({args.a, args.b, args.dz, Write::set}, nullptr);
  unary_backward({args.formula, args.z, args.dz, {args.dz, Write::set}}, nullptr);
  unary({args.formula, args.z, args.y}, nullptr);
}

void scale(const kernel::Scale& args, void*) {
  const Reader x(args.x), factor(args.factor);
  const Writer y(args.y, args.write);
  const double total = args.number * (args.factor ? factor[0] : 1);
  for (int64_t e = 0; e < args.x.shape.elements(); ++e) y.write(e, x[e] * total);
}

void dropout(const kernel::Dropout& args, void*) {
  const Reader x(args.x), samples(args.samples);
  const Writer y(args.y, args.write);
  const int64_t B = args.x.shape[0], size = args.x.shape.elements() / B;
  for (int64_t b = 0; b < B; ++b) {
    const auto sample = static_cast<int64_t>(samples[b]);
    for (int64_t e = 0; e < size; ++e)
      y.write(b * size + e, x[b * size + e] * dropout_factor(args.key, sample, e, args.p));
  }
}

}  // namespace accrue::reference
