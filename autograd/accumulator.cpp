#include "accrue/autograd/accumulator.h"

#include "accrue/autograd/accumulators.h"
#include "accrue/autograd/grad_buffer.h"

namespace accrue {

double Accumulator::bytes_per_weight(int64_t, DType wide) const {
  double bytes = 0;
  for (const State& one : state(wide, {1}))
    if (!one.name.ends_with('?')) bytes += static_cast<double>(size_of(one.dtype));
  return bytes;
}

void Accumulator::fold(GradBuffer& buffer, In micro, Write write) const {
  Tensor& sum = buffer.state("sum");
  launch(sum.device(), kernel::Copy{micro, sum.out(), write});
}

namespace accumulators {
namespace {

struct F32 final : Accumulator {
  std::string_view name() const override { return "f32"; }
  bool fused() const override { return true; }
  double error_bound(int64_t k) const override { return static_cast<double>(k - 1) * 0x1p-24; }
};

struct Bf16 final : Accumulator {
  std::string_view name() const override { return "bf16"; }
  bool fused() const override { return true; }
  double error_bound(int64_t k) const override { return static_cast<double>(k) * 0x1p-8; }
  std::vector<State> state(DType, const Shape&) const override { return {{"sum", DType::bf16}}; }
};

}  // namespace

std::shared_ptr<const Accumulator> f32() { return std::make_shared<F32>(); }
std::shared_ptr<const Accumulator> bf16() { return std::make_shared<Bf16>(); }

}  // namespace accumulators
}  // namespace accrue
