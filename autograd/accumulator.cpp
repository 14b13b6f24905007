#include "accrue/autograd/accumulator.h"

#include "accrue/autograd/grad_buffer.h"

namespace accrue {

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
  std::vector<State> state(DType) const override { return {{"sum", DType::bf16}}; }
};

}  // namespace

std::shared_ptr<const Accumulator> f32() { return std::make_shared<F32>(); }
std::shared_ptr<const Accumulator> bf16() { return std::make_shared<Bf16>(); }

std::shared_ptr<const Accumulator> named(std::string_view name) {
  for (const auto& one : {f32(), bf16(), kahan()})
    if (one->name() == name) return one;
  throw BadArgument(text("[accumulator] expected f32, bf16 or kahan, got ", name));
}

Accumulators parse(std::string_view choice) {
  Accumulators result;
  while (!choice.empty()) {
    const size_t comma = choice.find(',');
    const std::string_view one = choice.substr(0, comma);
    const size_t colon = one.find(':');
    const bool bare = colon == std::string_view::npos;
    result.emplace_back(bare ? "*" : one.substr(colon + 1), named(one.substr(0, colon)));
    choice = comma == std::string_view::npos ? "" : choice.substr(comma + 1);
  }
  return result;
}

}  // namespace accumulators
}  // namespace accrue
