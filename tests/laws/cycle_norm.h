// A cycle operation for the tests: exact BatchNorm over all samples of a cycle, however it is
// split.
#pragma once
#include <cmath>
#include <memory>

#include "support.h"

namespace accrue::test {

/// One norm's sums over the cycle, channel by channel. Empty between cycles.
struct Moments {
  Numbers mean, squares;        // of x: mean, Σ(x − mean)²
  Numbers sum_dy, sum_dy_xhat;  // of the gradient
  double count = 0;

  double scale(size_t c) const { return 1 / std::sqrt(squares[c] / count + 1e-5); }
  /// Merges the moments of n more rows. Source: Chan, Golub, LeVeque, COMPSTAT 1982.
  void merge(const Numbers& x, size_t channels) {
    if (mean.empty()) mean = squares = sum_dy = sum_dy_xhat = Numbers(channels, 0);
    const size_t n = x.size() / channels;
    for (size_t c = 0; c < channels; ++c) {
      double m = 0, s = 0;
      for (size_t r = 0; r < n; ++r) m += x[r * channels + c] / static_cast<double>(n);
      for (size_t r = 0; r < n; ++r) s += std::pow(x[r * channels + c] - m, 2);
      const double delta = m - mean[c], total = count + static_cast<double>(n);
      mean[c] += delta * static_cast<double>(n) / total;
      squares[c] += s + delta * delta * count * static_cast<double>(n) / total;
    }
    count += static_cast<double>(n);
  }
};

/// y = (x − μ)/√(σ² + 1e-5), μ and σ² over all rows of the cycle. x, y [R, C].
struct CycleNormOp {
  std::shared_ptr<Moments> cycle;

  void gather(const Tensor& x) const { cycle->merge(x.to_vector(), x.shape()[1]); }
  Tensor forward(Saved& saved, const Tensor& x) const {
    Tensor y = empty_like(x);
    if (current_mode() == Mode::run) {
      Numbers numbers = x.to_vector();
      const size_t channels = x.shape()[1];
      for (size_t i = 0; i < numbers.size(); ++i)
        numbers[i] = (numbers[i] - cycle->mean[i % channels]) * cycle->scale(i % channels);
      y = tensor_of(x.shape(), numbers, {x.device(), x.dtype()});
    }
    saved = {y};
    return y;
  }
  void gather_backward(const Saved& saved, const Tensor& dy) const {
    const Numbers gradient = dy.to_vector(), xhat = saved[0].to_vector();
    const size_t channels = dy.shape()[1];
    for (size_t i = 0; i < gradient.size(); ++i) {
      cycle->sum_dy[i % channels] += gradient[i];
      cycle->sum_dy_xhat[i % channels] += gradient[i] * xhat[i];
    }
  }
  void backward(const Saved& saved, const Tensor& dy, Edge dx) const {
    Numbers gradient = dy.to_vector();
    const Numbers xhat = saved[0].to_vector();
    const size_t channels = dy.shape()[1];
    for (size_t i = 0; i < gradient.size(); ++i) {
      const size_t c = i % channels;
      gradient[i] = cycle->scale(c) * (gradient[i] - cycle->sum_dy[c] / cycle->count -
                                       xhat[i] * cycle->sum_dy_xhat[c] / cycle->count);
    }
    dx.pass(tensor_of(dy.shape(), gradient, {dy.device(), dy.dtype()}));
  }
};
static_assert(NeedsCycle<CycleNormOp> && Operation<CycleNormOp, Var>);

struct CycleNorm {
  std::shared_ptr<Moments> cycle = std::make_shared<Moments>();
  Var operator()(const Var& x) const { return record("cycle_norm", CycleNormOp{cycle}, x); }
};

/// A linear layer without bias: a norm behind it would take the bias out again, and its gradient
/// would be rounding noise.
struct Mix {
  Parameter weight{Shape{5, 5}, normal(0.7)};
  Var operator()(const Var& x) const { return matmul(x, weight); }
  void visit(Visitor& part) { part("weight", weight); }
};

/// x + tanh(norm(x·w)), three times, between two linear layers; the norms see each other.
struct ResidualNet {
  Linear in{6, 5, normal(0.5)}, out{5, 3, normal(0.5)};
  std::vector<Mix> layers{3};
  std::vector<CycleNorm> norms{3};

  ResidualNet() { initialize(*this, {exact().device, exact().dtype}, Seed{3}); }
  Var operator()(const Var& x) const {
    Var h = in(x);
    for (size_t i = 0; i < layers.size(); ++i) h = h + tanh(norms[i](layers[i](h)));
    return out(h);
  }
  void visit(Visitor& part) { part("in", in), part("layers", layers), part("out", out); }
  /// Between cycles: the sums begin anew.
  void forget() const {
    for (const CycleNorm& norm : norms) *norm.cycle = {};
  }
  Loss loss(const Rows& micro) const { return mean_squared_error((*this)(micro.x), micro.y); }
};

}  // namespace accrue::test
