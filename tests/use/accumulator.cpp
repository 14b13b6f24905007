// A researcher's accumulator: the mean of bf16 micro-gradients kept to Kahan's precision, for some
// parameters only.
#include "accrue/autograd/cycle.h"
#include "accrue/core/map.h"

using namespace accrue;

struct Fold {
  template <class T>
  void operator()(T& sum, T& carry, T gradient) const {
    // What will be stored is rounded to bf16: the carry must know it.
    const T term = gradient - carry, next = BFloat16(static_cast<float>(sum + term));
    carry = (next - sum) - term;
    sum = next;
  }
};

struct Compensated final : Accumulator {
  std::string_view name() const override { return "compensated"; }
  bool fused() const override { return false; }
  double error_bound(int64_t) const override { return 0x1p-7; }
  std::vector<State> state(DType, const Shape&) const override {
    return {{"sum", DType::bf16}, {"carry", DType::bf16}};
  }
  void fold(GradBuffer& buffer, In micro, Write write) const override {
    Tensor &sum = buffer.state("sum"), &carry = buffer.state("carry");
    if (write == Write::set) {
      launch(sum.device(), kernel::Copy{micro, sum.out(), Write::set});
      launch(carry.device(), kernel::Fill{carry.out(), 0});
    } else {
      map(Fold{}, sum.device(), {sum.out(), carry.out()}, {micro});
    }
  }
};

Cycle make(const Parameters& parameters) {
  return Cycle(
      parameters,
      {.accumulate = {
           {"*.norm.*", std::make_shared<Compensated>()}, {"*", accumulators::kahan()}}});
}
