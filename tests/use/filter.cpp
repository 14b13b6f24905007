// A researcher's filter: large micro-gradients count half, and none is dropped.
#include "accrue/autograd/cycle.h"

using namespace accrue;

struct Halve final : Filter {
  double limit;
  explicit Halve(double l) : limit(l) {}
  std::string name() const override { return text("halve:", limit); }
  bool may_drop() const override { return false; }
  SplitEquality split_equality() const override { return SplitEquality::none; }
  double judge(const MicroGrads& gradients) const override {
    return gradients.norm() > limit ? 0.5 : 1;
  }
};

Cycle make(const Parameters& parameters) {
  return Cycle(parameters, {.filter = std::make_shared<Halve>(2.0)});
}
