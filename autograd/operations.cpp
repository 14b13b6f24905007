#include "accrue/autograd/operations.h"

#include "accrue/core/views.h"

namespace accrue {
namespace {

using namespace kernel;

void require_one_dtype(const char* name, const Tensor& a, const Tensor& b) {
  require(a.dtype() == b.dtype(), "[", name, "] expected one dtype, got ", a.dtype(), " and ",
          b.dtype());
}

// Deposits dy where the input may have been broadcast to dy's shape.
void pass_broadcast(const Edge& edge, const Tensor& dy, const Shape& shape) {
  if (dy.shape() == shape) return edge.pass(dy);
  const Deposit d = edge.place();
  launch(dy.device(), SumTo{dy.in(), d.into, d.write});
}

struct AddOp {
  Shape a_shape, b_shape;
  Tensor forward(Saved&, const Tensor& a, const Tensor& b) const {
    require_one_dtype("add", a, b);
    Tensor y(broadcast("add", a.shape(), b.shape()), a.dtype(), a.device());
    launch(y.device(), Binary{BinaryFormula::add, a.in(), b.in(), y.out(), Write::set});
    return y;
  }
  void backward(const Saved&, const Tensor& dy, Edge da, Edge db) const {
    if (da) pass_broadcast(da, dy, a_shape);
    if (db) pass_broadcast(db, dy, b_shape);
  }
};

struct MultiplyOp {
  Tensor forward(Saved& saved, const Tensor& a, const Tensor& b) const {
    require_one_dtype("multiply", a, b);
    Tensor y(broadcast("multiply", a.shape(), b.shape()), a.dtype(), a.device());
    launch(y.device(), Binary{BinaryFormula::multiply, a.in(), b.in(), y.out(), Write::set});
    saved = {a, b};
    return y;
  }
  void backward(const Saved& saved, const Tensor& dy, Edge da, Edge db) const {
    if (da) deposit(da, dy, saved[1], saved[0].shape());
    if (db) deposit(db, dy, saved[0], saved[1].shape());
  }
  static void deposit(const Edge& edge, const Tensor& dy, const Tensor& other, const Shape& shape) {
    if (dy.shape() == shape) {
      const Deposit d = edge.place();
      launch(dy.device(), Binary{BinaryFormula::multiply, dy.in(), other.in(), d.into, d.write});
      return;
    }
    Tensor product = empty_like(dy);
    launch(dy.device(),
           Binary{BinaryFormula::multiply, dy.in(), other.in(), product.out(), Write::set});
    pass_broadcast(edge, product, shape);
  }
};

struct ScaleOp {
  double factor;
  Tensor forward(Saved&, const Tensor& x) const {
    Tensor y = empty_like(x);
    launch(x.device(), Scale{x.in(), {}, factor, y.out(), Write::set});
    return y;
  }
  void backward(const Saved&, const Tensor& dy, Edge dx) const {
    const Deposit d = dx.place();
    launch(dy.device(), Scale{dy.in(), {}, factor, d.into, d.write});
  }
};

/// Memory for x·w + bias, which can be computed.
Tensor product(const char* name, const Tensor& x, const In& w, const In& bias, bool transpose) {
  require(x.shape().rank >= 1 && w.shape.rank == 2 && x.shape()[-1] == w.shape[0], "[", name,
          "] expected x […, K] and w [K, N], got ", x.shape(), " and ", w.shape,
          transpose ? " (transposed)" : "");
  require(x.dtype() == w.dtype, "[", name, "] expected one dtype, got ", x.dtype(), " and ",
          w.dtype);
  require(x.is_contiguous(), "[", name, "] expected a contiguous x, got strides ", x.strides(),
          "; try a copy");
  require(!bias || (bias.shape == Shape({w.shape[1]}) && bias.dtype == x.dtype()), "[", name,
          "] expected a bias ", x.dtype(), " [", w.shape[1], "], got ", bias.dtype, " ",
          bias.shape);
  require(w.shape[0] > 0, "[", name, "] expected at least one column, got ", x.shape());
  Shape shape = x.shape();
  shape[-1] = w.shape[1];
  return {shape, x.dtype(), x.device()};
}

Tensor multiply(const char* name, const Tensor& x, const Tensor& weight, bool transpose,
                const In& bias) {
  const In w = transpose ? transposed(weight.in()) : weight.in();
  Tensor y = product(name, x, w, bias, transpose);
  launch(x.device(), Matmul{rows(x.in()), w, rows(y.out()), Write::set, bias});
  return y;
}

// dx = dy·wᵀ, dw = xᵀ·dy; a transposed weight's gradient is the transposed dyᵀ·x.
void multiply_backward(const Tensor& x, const Tensor& w, const Tensor& dy, Edge dx, Edge dw,
                       bool transpose) {
  const In rows_dy = rows(dy.in()), rows_x = rows(x.in());
  if (dx) {
    const Deposit d = dx.place();
    const In back = transpose ? w.in() : transposed(w.in());
    launch(dy.device(), Matmul{rows_dy, back, rows(d.into), d.write});
  }
  if (dw) {
    const Deposit d = dw.place();
    launch(dy.device(), Matmul{transposed(transpose ? rows_dy : rows_x),
                               transpose ? rows_x : rows_dy, d.into, d.write});
  }
}

void pass_sum(const Edge& edge, const Tensor& dy) {
  if (!edge) return;
  const Deposit d = edge.place();
  launch(dy.device(), SumTo{rows(dy.in()), d.into, d.write});
}

struct LinearOp {
  Tensor forward(Saved& saved, const Tensor& x, const Tensor& w, const Tensor& b) const {
    saved = {x, w};
    return multiply("linear", x, w, false, b.in());
  }
  void backward(const Saved& saved, const Tensor& dy, Edge dx, Edge dw, Edge db) const {
    multiply_backward(saved[0], saved[1], dy, dx, dw, false);
    pass_sum(db, dy);
  }
};

struct GeluMlpOp {
  Tensor forward(Saved& saved, const Tensor& x, const Tensor& fc, const Tensor& fc_bias,
                 const Tensor& proj, const Tensor& proj_bias) const {
    Tensor z = product("gelu_mlp", x, fc.in(), fc_bias.in(), false);
    Tensor hidden = empty_like(z);
    launch(x.device(), MatmulUnary{UnaryFormula::gelu, rows(x.in()), fc.in(), fc_bias.in(),
                                   rows(z.out()), rows(hidden.out())});
    saved = {x, fc, z, proj};
    return multiply("gelu_mlp", hidden, proj, false, proj_bias.in());
  }
  void backward(const Saved& saved, const Tensor& dy, Edge dx, Edge dfc, Edge dfc_bias, Edge dproj,
                Edge dproj_bias) const {
    const Tensor &x = saved[0], &fc = saved[1], &z = saved[2], &proj = saved[3];
    Tensor dz = empty_like(z), hidden = empty_like(z);
    launch(dy.device(),
           MatmulUnaryBackward{UnaryFormula::gelu, rows(dy.in()), transposed(proj.in()),
                               rows(z.in()), rows(dz.out()), rows(hidden.out())});
    multiply_backward(hidden, proj, dy, {}, dproj, false);
    hidden = {};  // before dx needs memory
    pass_sum(dproj_bias, dy);
    multiply_backward(x, fc, dz, dx, dfc, false);
    pass_sum(dfc_bias, dz);
  }
};

struct MatmulOp {
  bool transpose;
  Tensor forward(Saved& saved, const Tensor& x, const Tensor& w) const {
    saved = {x, w};
    return multiply(transpose ? "matmul_transposed" : "matmul", x, w, transpose, {});
  }
  void backward(const Saved& saved, const Tensor& dy, Edge dx, Edge dw) const {
    multiply_backward(saved[0], saved[1], dy, dx, dw, transpose);
  }
};

struct UnaryOp {
  UnaryFormula formula;
  Tensor forward(Saved& saved, const Tensor& x) const {
    require(x.is_contiguous(), "[unary] expected a contiguous tensor, got strides ", x.strides(),
            "; try a copy");
    Tensor y = empty_like(x);
    launch(x.device(), Unary{formula, x.in(), y.out()});
    saved = {x};
    return y;
  }
  void backward(const Saved& saved, const Tensor& dy, Edge dx) const {
    // A gradient that nobody else holds is turned into dx where it lies: one stream less of memory.
    if (dy.sharers() == 1 && dy.is_contiguous()) {
      Tensor own = dy;
      launch(dy.device(), UnaryBackward{formula, saved[0].in(), dy.in(), {own.out(), Write::set}});
      return dx.pass(own);
    }
    launch(dy.device(), UnaryBackward{formula, saved[0].in(), dy.in(), dx.place()});
  }
};

struct ReshapeOp {
  Shape from, to;
  Tensor forward(Saved&, const Tensor& x) const { return x.reshape(to); }
  void backward(const Saved&, const Tensor& dy, Edge dx) const { dx.pass(dy.reshape(from)); }
};

struct SliceOp {
  int64_t first, count;
  Tensor forward(Saved&, const Tensor& x) const { return x.slice(first, count); }
  void backward(const Saved&, const Tensor& dy, Edge dx) const {
    const Deposit d = dx.place();
    if (d.write == Write::set) launch(dy.device(), Fill{d.into, 0});  // dy covers only a part
    launch(dy.device(), Copy{dy.in(), part(d.into, first, count), Write::add});
  }
};

struct SumOp {
  Tensor forward(Saved&, const Tensor& x) const {
    Tensor y({1}, wide(x.dtype()), x.device());
    launch(x.device(), SumTo{x.in(), y.out(), Write::set});
    return y;
  }
  void backward(const Saved&, const Tensor& dy, Edge dx) const {
    const Deposit d = dx.place();
    launch(dy.device(), Copy{dy.in(), d.into, d.write});
  }
};

}  // namespace

Var operator+(const Var& a, const Var& b) {
  return record("add", AddOp{a.shape(), b.shape()}, a, b);
}
Var operator*(const Var& a, const Var& b) { return record("multiply", MultiplyOp{}, a, b); }
Var scale(const Var& x, double factor) { return record("scale", ScaleOp{factor}, x); }
Var matmul(const Var& x, const Var& w) { return record("matmul", MatmulOp{false}, x, w); }
Var matmul_transposed(const Var& x, const Var& w) {
  return record("matmul_transposed", MatmulOp{true}, x, w);
}
Var linear(const Var& x, const Var& w, const Var& b) {
  return record("linear", LinearOp{}, x, w, b);
}
Var gelu_mlp(const Var& x, const Var& fc, const Var& fc_bias, const Var& proj,
             const Var& proj_bias) {
  return record("gelu_mlp", GeluMlpOp{}, x, fc, fc_bias, proj, proj_bias);
}
Var gelu(const Var& x) { return record("gelu", UnaryOp{UnaryFormula::gelu}, x); }
Var silu(const Var& x) { return record("silu", UnaryOp{UnaryFormula::silu}, x); }
Var relu(const Var& x) { return record("relu", UnaryOp{UnaryFormula::relu}, x); }
Var tanh(const Var& x) { return record("tanh", UnaryOp{UnaryFormula::tanh}, x); }
Var reshape(const Var& x, Shape shape) {
  const Shape to = x.value().reshape(shape).shape();
  return record("reshape", ReshapeOp{x.shape(), to}, x);
}
Var slice(const Var& x, int64_t first, int64_t count) {
  return record("slice", SliceOp{first, count}, x);
}
Var sum(const Var& x) { return record("sum", SumOp{}, x); }

}  // namespace accrue
