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

/// Of x; or of x + branch, which it leaves in the memory of `sum`.
Tensor normalize(Saved& saved, const Tensor& x, const Tensor& branch, Tensor sum,
                 const Tensor& gamma, const In& beta, double epsilon) {
  Tensor y = empty_like(x);
  Tensor statistics({x.elements() / x.shape()[-1], 2}, wide(x.dtype()), x.device());
  const bool centered = static_cast<bool>(beta);
  Norm args{rows(x.in()), gamma.in(), beta, rows(y.out()), statistics.out(), epsilon, centered};
  if (branch) args.branch = rows(branch.in()), args.sum = rows(sum.out());
  launch(x.device(), args);
  saved = {branch ? sum : x, gamma, statistics};
  return y;
}

void normalize_backward(const Saved& saved, const Tensor& dy, const Edge& dx, const Edge& dgamma,
                        const Edge& dbeta, bool centered) {
  auto into = place(dx);
  if (into) into->into = rows(into->into);
  launch(dy.device(), NormBackward{rows(saved[0].in()), saved[1].in(), saved[2].in(), rows(dy.in()),
                                   into, place(dgamma), place(dbeta), centered});
}

/// Of x; or of x, a branch and the sum to come, which alone has a gradient. `beta`: of LayerNorm.
template <bool centered>
struct NormOp {
  double epsilon;
  Tensor forward(Saved& saved, const Tensor& x, const Tensor& gamma, const auto&... beta) const
      requires(sizeof...(beta) == centered) {
    return normalize(saved, x, {}, {}, gamma, In(beta.in()...), epsilon);
  }
  Tensor forward(Saved& saved, const Tensor& x, const Tensor& branch, const Tensor& sum,
                 const Tensor& gamma, const auto&... beta) const
      requires(sizeof...(beta) == centered) {
    return normalize(saved, x, branch, sum, gamma, In(beta.in()...), epsilon);
  }
  void backward(const Saved& saved, const Tensor& dy, Edge dx, Edge dgamma, auto... dbeta) const
      requires(sizeof...(dbeta) == centered) {
    normalize_backward(saved, dy, dx, dgamma, Edge(dbeta...), centered);
  }
  void backward(const Saved& saved, const Tensor& dy, Edge, Edge, Edge dsum, Edge dgamma,
                auto... dbeta) const requires(sizeof...(dbeta) == centered) {
    normalize_backward(saved, dy, dsum, dgamma, Edge(dbeta...), centered);
  }
};

/// x + branch, in memory that the norm after it fills.
struct SumToComeOp {
  Tensor forward(Saved&, const Tensor& x, const Tensor&) const { return empty_like(x); }
  void backward(const Saved&, const Tensor& dy, Edge dx, Edge dbranch) const {
    if (dx) dx.pass(dy);
    if (dbranch) dbranch.pass(dy);
  }
};

Var sum_to_come(const char* name, const Var& x, const Var& branch) {
  require(
      branch.shape() == x.shape() && branch.dtype() == x.dtype() && branch.value().is_contiguous(),
      "[", name, "] expected a contiguous branch ", x.dtype(), " ", x.shape(), " as x, got ",
      branch.dtype(), " ", branch.shape());
  return record(name, SumToComeOp{}, x, branch);
}

}  // namespace

Var layer_norm(const Var& x, const Var& gamma, const Var& beta, double epsilon) {
  check("layer_norm", x, gamma);
  check("layer_norm", x, beta);
  return record("layer_norm", NormOp<true>{epsilon}, x, gamma, beta);
}

Var rms_norm(const Var& x, const Var& gamma, double epsilon) {
  check("rms_norm", x, gamma);
  return record("rms_norm", NormOp<false>{epsilon}, x, gamma);
}

SumAndNorm add_layer_norm(const Var& x, const Var& branch, const Var& gamma, const Var& beta,
                          double epsilon) {
  constexpr auto name = "add_layer_norm";
  check(name, x, gamma);
  check(name, x, beta);
  const Var sum = sum_to_come(name, x, branch);
  return {sum, record(name, NormOp<true>{epsilon}, x, branch, sum, gamma, beta)};
}

SumAndNorm add_rms_norm(const Var& x, const Var& branch, const Var& gamma, double epsilon) {
  constexpr auto name = "add_rms_norm";
  check(name, x, gamma);
  const Var sum = sum_to_come(name, x, branch);
  return {sum, record(name, NormOp<false>{epsilon}, x, branch, sum, gamma)};
}

}  // namespace accrue
