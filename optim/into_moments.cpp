// Gradients that go into Adam's moments: AdamA and batch-size-invariant Adam.
#include <algorithm>
#include <cmath>

#include "accrue/optim/consumption.h"

namespace accrue {
namespace {

struct IntoMoments final : Accumulator {
  Adam& adam;
  double exponent;
  std::string called;

  IntoMoments(Adam& optimizer, double p)
      : adam(optimizer), exponent(p), called(p == 0 ? "adam_a" : text("moments:", p)) {
    adam.allow_folding();
  }
  std::string_view name() const override { return called; }
  bool fused() const override { return false; }
  SplitEquality split_equality() const override { return SplitEquality::none; }  // of v
  bool running_sum() const override { return false; }
  bool whole_micro() const override { return true; }
  bool undoable() const override { return false; }
  bool needs_divisor() const override { return true; }
  double error_bound(int64_t) const override { return INFINITY; }  // there is no sum
  std::vector<State> state(DType, const Shape&) const override { return {}; }
  void check(const ParameterState& one) const override {
    const auto& all = adam.parameters().list;
    require(std::ranges::any_of(all, [&](const auto& p) { return p.get() == &one; }), "[", name(),
            "] expected parameters of the optimizer that they go into, got ", one.name,
            "; name its parameters by a pattern");
  }

  void fold(GradBuffer& buffer, In micro, Write write) const override {
    const CycleFacts& facts = buffer.facts();
    adam.check_counts(facts.shares);
    if (facts.divisor == 0) return;  // nothing counts: the cycle will be skipped
    require(facts.divisor > 0, "[", name(),
            "] expected the total of the cycle's counts before its first backward; give the batch "
            "a count(), or use Loss::share");
    require(exponent == 0 || facts.micro_batches > 0, "[", name(),
            "] expected the number of micro-batches beforehand; use Cycle::run or Cycle::split");
    const double share = std::pow(static_cast<double>(facts.micro_batches), exponent);
    adam.fold(*buffer.parameter_state(), micro, facts.divisor, exponent == 0 ? 1 : share,
              write == Write::set, facts.index);
  }
};

}  // namespace

std::shared_ptr<const Accumulator> into_moments(Adam& adam, double exponent) {
  return std::make_shared<IntoMoments>(adam, exponent);
}

}  // namespace accrue
