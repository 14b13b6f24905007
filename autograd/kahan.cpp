// Kahan summation: the rounding error of each addition is carried into the next one.
#include "accrue/autograd/accumulators.h"
#include "accrue/autograd/grad_buffer.h"
#include "accrue/core/map.h"

namespace accrue {
namespace {

struct Kahan final : Accumulator {
  std::string_view name() const override { return "kahan"; }
  bool fused() const override { return false; }
  bool replays() const override { return true; }
  double error_bound(int64_t k) const override { return 2 * 0x1p-24 + 2 * k * 0x1p-48; }
  std::vector<State> state(DType wide, const Shape&) const override {
    return {{"sum", wide}, {"carry", wide}};
  }
  void fold(GradBuffer& buffer, In micro, Write write) const override {
    Tensor &sum = buffer.state("sum"), &carry = buffer.state("carry");
    if (write == Write::set) {
      launch(sum.device(), kernel::Copy{micro, sum.out(), Write::set});
      launch(sum.device(), kernel::Fill{carry.out(), 0});
      return;
    }
    map(fold::Kahan{}, sum.device(), {sum.out(), carry.out()}, {micro});
  }
};

}  // namespace

std::shared_ptr<const Accumulator> accumulators::kahan() { return std::make_shared<Kahan>(); }

}  // namespace accrue
