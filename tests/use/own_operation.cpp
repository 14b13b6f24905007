// y = x·sigmoid(βx), β learnt: one struct with forward and backward, one function, one module.
#include <cmath>

#include "accrue/autograd/cycle.h"
#include "accrue/autograd/operations.h"
#include "accrue/core/map.h"

using namespace accrue;

struct Swish {
  template <class T>
  void operator()(T& y, T x, T b) const {
    y = x / (1 + std::exp(-b * x));
  }
};
struct SwishGradient {  // adds its share to d, the gradient of x or of β
  bool of_x;
  template <class T>
  void operator()(T& d, T x, T b, T dy) const {
    const T s = 1 / (1 + std::exp(-b * x)), slope = s * (1 - s);
    d += dy * (of_x ? s + b * x * slope : x * x * slope);
  }
};

struct SwishOperation {
  Tensor forward(Saved& saved, const Tensor& x, const Tensor& b) const {
    Tensor y = empty_like(x);
    map(Swish{}, x.device(), {y.out()}, {x.in(), b.in()});
    saved = {x, b};
    return y;
  }
  void backward(const Saved& saved, const Tensor& dy, Edge dx, Edge db) const {
    if (dx) add(SwishGradient{true}, saved, dy, dx.place());
    if (db) add(SwishGradient{false}, saved, dy, db.place());
  }
  static void add(SwishGradient gradient, const Saved& saved, const Tensor& dy, Deposit to) {
    if (to.write == Write::set) launch(dy.device(), kernel::Fill{to.into, 0});
    map(gradient, dy.device(), {to.into}, {saved[0].in(), saved[1].in(), dy.in()});
  }
};

struct SwishLayer {
  Parameter beta;
  explicit SwishLayer(int64_t rows, int64_t width) : beta(Shape{rows, width}, ones()) {}
  Var operator()(const Var& x) const { return record("swish", SwishOperation{}, x, beta); }
  void visit(Visitor& part) { part("beta", beta); }
};
