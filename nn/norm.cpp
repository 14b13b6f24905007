#include "accrue/core/views.h"
#include "accrue/nn/functional.h"

namespace accrue {
namespace {

using namespace kernel;

std::optional<Deposit> place(const Edge& edge) {
  if (!edge) return std::nullopt;
  return edge.place();
}

void check(const char* name, const Var& x, const Var& weight) {
  require(x.shape().rank >= 1 && x.shape()[-1] > 0 && x.value().is_contiguous(), "[", name,
          "] expected a contiguous x […, C], got ", x.shape());
  require(weight.shape() == Shape({x.shape()[-1]}) && weight.dtype() == x.dtype(), "[", name,
          "] expected a weight ", x.dtype(), " [", x.shape()[-1], "] for x ", x.shape(), ", got ",
          weight.dtype(), " ", weight.shape());
}

Tensor normalize(Saved& saved, const Tensor& x, const Tensor& gamma, const In& beta, double epsilon,
                 bool centered) {
  Tensor y = empty_like(x);
  Tensor statistics({x.elements() / x.shape()[-1], 2}, wide(x.dtype()), x.device());
  launch(x.device(),
         Norm{rows(x.in()), gamma.in(), beta, rows(y.out()), statistics.out(), epsilon, centered});
  saved = {x, gamma, statistics};
  return y;
}

void normalize_backward(const Saved& saved, const Tensor& dy, const Edge& dx, const Edge& dgamma,
                        const Edge& dbeta, bool centered) {
  auto into = place(dx);
  if (into) into->into = rows(into->into);
  launch(dy.device(), NormBackward{rows(saved[0].in()), saved[1].in(), saved[2].in(), rows(dy.in()),
                                   into, place(dgamma), place(dbeta), centered});
}

struct LayerNormOp {
  double epsilon;
  Tensor forward(Saved& saved, const Tensor& x, const Tensor& gamma, const Tensor& beta) const {
    return normalize(saved, x, gamma, beta.in(), epsilon, true);
  }
  void backward(const Saved& saved, const Tensor& dy, Edge dx, Edge dgamma, Edge dbeta) const {
    normalize_backward(saved, dy, dx, dgamma, dbeta, true);
  }
};

struct RmsNormOp {
  double epsilon;
  Tensor forward(Saved& saved, const Tensor& x, const Tensor& gamma) const {
    return normalize(saved, x, gamma, {}, epsilon, false);
  }
  void backward(const Saved& saved, const Tensor& dy, Edge dx, Edge dgamma) const {
    normalize_backward(saved, dy, dx, dgamma, {}, false);
  }
};

}  // namespace

Var layer_norm(const Var& x, const Var& gamma, const Var& beta, double epsilon) {
  check("layer_norm", x, gamma);
  check("layer_norm", x, beta);
  return record("layer_norm", LayerNormOp{epsilon}, x, gamma, beta);
}

Var rms_norm(const Var& x, const Var& gamma, double epsilon) {
  check("rms_norm", x, gamma);
  return record("rms_norm", RmsNormOp{epsilon}, x, gamma);
}

}  // namespace accrue
