// Neumaier's summation: Kahan's, and right too where a term is larger than the sum so far.
#pragma once
#include <cmath>

#include "accrue/autograd/grad_buffer.h"
#include "accrue/core/map.h"

namespace accrue::examples {

/// What each addition loses is summed apart and added once, at the end. 8 bytes a weight.
/// Source: Neumaier, "Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen", ZAMM
/// 54, 1974; the bound: Ogita, Rump, Oishi, "Accurate sum and dot product", SISC 26, 2005.
struct Neumaier final : Accumulator {
  struct Fold {
    template <class T>
    void operator()(T& sum, T& lost, T gradient) const {
      const T next = sum + gradient;
      // The smaller of the two is the one that loses digits.
      lost +=
          std::abs(sum) >= std::abs(gradient) ? (sum - next) + gradient : (gradient - next) + sum;
      sum = next;
    }
  };
  struct Add {
    template <class T>
    void operator()(T& sum, T lost) const {
      sum += lost;
    }
  };

  std::string_view name() const override { return "neumaier"; }
  bool fused() const override { return false; }
  double error_bound(int64_t k) const override {
    const double gamma = static_cast<double>(k) * 0x1p-24;
    return 0x1p-24 + gamma * gamma;
  }
  std::vector<State> state(DType wide, const Shape&) const override {
    return {{"sum", wide}, {"lost", wide}};
  }
  void fold(GradBuffer& buffer, In micro, Write write) const override {
    Tensor &sum = buffer.state("sum"), &lost = buffer.state("lost");
    if (write == Write::add) return map(Fold{}, sum.device(), {sum.out(), lost.out()}, {micro});
    launch(sum.device(), kernel::Copy{micro, sum.out(), Write::set});
    launch(sum.device(), kernel::Fill{lost.out(), 0});
  }
  bool finish(GradBuffer& buffer) const override {
    Tensor& sum = buffer.state("sum");
    map(Add{}, sum.device(), {sum.out()}, {buffer.state("lost").in()});
    return true;
  }
};

}  // namespace accrue::examples
