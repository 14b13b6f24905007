// Binary, Unary and UnaryBackward; the formulas are those of core/functors/elementwise.h.
#include "accrue/core/functors/elementwise.h"

#include "accrue/cuda/dispatch.h"
#include "accrue/cuda/each.cuh"
#include "accrue/cuda/kernels.h"

namespace accrue::cuda {
namespace {

using Math = functor::ExactMath;

struct Combine {
  bool adds, deposits;
  template <class Wide>
  __device__ void operator()(Wide& y, Wide a, Wide b) const {
    const Wide value = adds ? a + b : a * b;
    y = deposits ? y + value : value;
  }
};

template <class Formula>
struct Value {
  template <class Wide>
  __device__ void operator()(Wide& y, Wide x) const {
    y = Formula::value(x);
  }
};

template <class Formula>
struct Slope {
  bool deposits;
  template <class Wide>
  __device__ void operator()(Wide& dx, Wide x, Wide dy) const {
    const Wide value = Formula::slope(x) * dy;
    dx = deposits ? dx + value : value;
  }
};

/// body(Formula{}).
template <class Body>
void with_formula(kernel::UnaryFormula formula, const Body& body) {
  switch (formula) {
    case kernel::UnaryFormula::gelu:
      return body(functor::Gelu<Math>());
    case kernel::UnaryFormula::silu:
      return body(functor::Silu<Math>());
    case kernel::UnaryFormula::relu:
      return body(functor::Relu());
    case kernel::UnaryFormula::tanh:
      return body(functor::Tanh<Math>());
  }
}

}  // namespace

void binary(const kernel::Binary& args, void*) {
  const bool deposits = args.write == Write::add;
  const Combine formula{args.formula == kernel::BinaryFormula::add, deposits};
  with_float(args.y.dtype, [&]<class T>(T) {
    each<1, WideOf<T>, true>(Types<T, T, T>(), formula, args.y.shape, {args.y, args.a, args.b},
                             deposits);
  });
}

void unary(const kernel::Unary& args, void*) {
  with_formula(args.formula, [&]<class Formula>(Formula) {
    with_float(args.x.dtype, [&]<class T>(T) {
      each<1, WideOf<T>, false>(Types<T, T>(), Value<Formula>(), args.x.shape, {args.y, args.x},
                                false);
    });
  });
}

void unary_backward(const kernel::UnaryBackward& args, void*) {
  const bool deposits = args.dx.write == Write::add;
  with_formula(args.formula, [&]<class Formula>(Formula) {
    with_float(args.x.dtype, [&]<class T>(T) {
      each<1, WideOf<T>, false>(Types<T, T, T>(), Slope<Formula>{deposits}, args.x.shape,
                                {args.dx.into, args.x, args.dy}, deposits);
    });
  });
}

}  // namespace accrue::cuda
