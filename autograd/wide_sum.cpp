// Sums in f64, rounded once at the cycle's end.
#include "accrue/autograd/accumulators.h"
#include "accrue/autograd/grad_buffer.h"
#include "accrue/core/map.h"

namespace accrue {
namespace {

struct F64 final : Accumulator {
  std::string_view name() const override { return "f64"; }
  bool fused() const override { return false; }
  bool replays() const override { return true; }
  bool running_sum() const override { return false; }
  double error_bound(int64_t k) const override {
    return static_cast<double>(k) * 0x1p-53 + 0x1p-24;
  }
  std::vector<State> state(DType wide, const Shape&) const override {
    return {{"sum", wide}, {"wide", DType::f64}};
  }
  bool live(const GradBuffer&, std::string_view state) const override { return state == "wide"; }
  void fold(GradBuffer& buffer, In micro, Write write) const override {
    Tensor& sum = buffer.state("wide");
    if (write == Write::set)
      launch(sum.device(), kernel::Copy{micro, sum.out(), Write::set});
    else
      map(fold::Add{}, sum.device(), {sum.out()}, {micro});
  }
  bool finish(GradBuffer& buffer) const override {
    Tensor& sum = buffer.state("sum");
    launch(sum.device(), kernel::Copy{buffer.state("wide").in(), sum.out(), Write::set});
    return true;
  }
};

}  // namespace

std::shared_ptr<const Accumulator> accumulators::f64() { return std::make_shared<F64>(); }

}  // namespace accrue
