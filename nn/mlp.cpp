// The two layers of a transformer between attentions, as one operation.
#include "accrue/core/views.h"
#include "accrue/nn/functional.h"

namespace accrue {
namespace {

using namespace kernel;

In transposed(const Tensor& matrix) { return matrix.transpose(0, 1).in(); }

void require_layer(const char* name, const Tensor& x, const Tensor& weight, const Tensor& bias) {
  require(weight.shape().rank == 2 && weight.shape()[0] == x.shape()[-1] && x.shape()[-1] > 0,
          "[gelu_mlp] expected ", name, " [", x.shape()[-1], ", …], got ", weight.shape());
  require(bias.shape() == Shape({weight.shape()[1]}), "[gelu_mlp] expected a bias of ", name, " [",
          weight.shape()[1], "], got ", bias.shape());
  require(weight.dtype() == x.dtype() && bias.dtype() == x.dtype(),
          "[gelu_mlp] expected one dtype, got ", x.dtype(), ", ", weight.dtype(), " and ",
          bias.dtype());
}

void pass_sum(const Edge& edge, const Tensor& dy) {
  if (!edge) return;
  const Deposit d = edge.place();
  launch(dy.device(), SumTo{dy.in(), d.into, d.write});
}

struct GeluMlpOp {
  static constexpr UnaryFormula formula = UnaryFormula::gelu;

  Tensor forward(Saved& saved, const Tensor& x, const Tensor& fc, const Tensor& fc_bias,
                 const Tensor& proj, const Tensor& proj_bias) const {
    require(x.shape().rank >= 1 && x.is_contiguous(),
            "[gelu_mlp] expected a contiguous x […, C], got ", x.shape(), " with strides ",
            x.strides());
    require_layer("fc", x, fc, fc_bias);
    const Tensor flat = x.reshape({-1, x.shape()[-1]});
    Tensor z({flat.shape()[0], fc.shape()[1]}, x.dtype(), x.device());
    require_layer("proj", z, proj, proj_bias);
    Tensor hidden = empty_like(z);  // given back when this returns
    Shape shape = x.shape();
    shape[-1] = proj.shape()[1];
    Tensor y(shape, x.dtype(), x.device());
    launch(x.device(),
           MatmulUnary{formula, flat.in(), fc.in(), fc_bias.in(), z.out(), hidden.out()});
    launch(x.device(), Matmul{hidden.in(), proj.in(), rows(y.out()), Write::set, proj_bias.in()});
    saved = {flat, fc, z, proj};
    return y;
  }

  void backward(const Saved& saved, const Tensor& dy, Edge dx, Edge dfc, Edge dfc_bias, Edge dproj,
                Edge dproj_bias) const {
    const Tensor &x = saved[0], &fc = saved[1], &z = saved[2], &proj = saved[3];
    const Tensor flat = dy.reshape({-1, dy.shape()[-1]});
    pass_sum(dproj_bias, flat);
    Tensor dz = empty_like(z);
    {
      Tensor hidden = empty_like(z);
      launch(dy.device(), MatmulUnaryBackward{formula, flat.in(), transposed(proj), z.in(),
                                              dz.out(), hidden.out()});
      if (dproj) {
        const Deposit d = dproj.place();
        launch(dy.device(), Matmul{transposed(hidden), flat.in(), d.into, d.write});
      }
    }
    pass_sum(dfc_bias, dz);
    if (dx) {
      const Deposit d = dx.place();
      launch(dy.device(), Matmul{dz.in(), transposed(fc), rows(d.into), d.write});
    }
    if (dfc) {
      const Deposit d = dfc.place();
      launch(dy.device(), Matmul{transposed(x), dz.in(), d.into, d.write});
    }
  }
};

}  // namespace

Var gelu_mlp(const Var& x, const Var& fc, const Var& fc_bias, const Var& proj,
             const Var& proj_bias) {
  return record("gelu_mlp", GeluMlpOp{}, x, fc, fc_bias, proj, proj_bias);
}

}  // namespace accrue
