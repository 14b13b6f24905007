// bf16 sums with stochastic rounding: up or down by chance, right on average.
#include <bit>
#include <cmath>

#include "accrue/autograd/accumulators.h"
#include "accrue/autograd/grad_buffer.h"
#include "accrue/core/map.h"

namespace accrue {
namespace {

/// x rounded to bf16: away from zero with the probability of what is cut off, out of 2¹⁶.
BFloat16 round_stochastically(float x, uint32_t random16) {
  if (!std::isfinite(x)) return BFloat16(x);
  const uint32_t bits = std::bit_cast<uint32_t>(x) + random16;
  return std::bit_cast<BFloat16>(static_cast<uint16_t>(bits >> 16));
}

struct Stochastic final : Accumulator {
  std::string_view name() const override { return "bf16_stochastic"; }
  bool fused() const override { return false; }
  // Of the worst case; the standard deviation grows with √K·2⁻⁸ and the mean is exact.
  double error_bound(int64_t k) const override { return static_cast<double>(k) * 0x1p-7; }
  std::vector<State> state(DType, const Shape&) const override { return {{"sum", DType::bf16}}; }
  // A micro-batch may fold more than once, where operations gather a whole cycle.
  std::vector<std::string> numbers() const override { return {"folds"}; }
  void fold(GradBuffer& buffer, In micro, Write write) const override {
    Tensor& sum = buffer.state("sum");
    const CycleFacts& facts = buffer.facts();
    int64_t& folds = buffer.number("folds");
    folds = write == Write::set ? 0 : folds + 1;
    const RandomKey key{hash_of(0, buffer.parameter(), static_cast<uint64_t>(folds)),
                        facts.index.value};
    auto* sums = static_cast<BFloat16*>(sum.out().data);
    for_blocks(sum.device(), sum.elements(), 8, [=](int64_t first, int64_t last) {
      const auto draws = key.draw(0, static_cast<uint64_t>(first / 8));  // two of 16 bits each
      for (int64_t i = first; i < last; ++i) {
        const uint32_t random = draws[(i - first) / 2] >> 16 * (i % 2) & 0xffff;
        const float before = write == Write::add ? static_cast<float>(sums[i]) : 0;
        sums[i] = round_stochastically(before + detail::load<float>(micro, i), random);
      }
    });
  }
};

}  // namespace

std::shared_ptr<const Accumulator> accumulators::bf16_stochastic() {
  return std::make_shared<Stochastic>();
}

}  // namespace accrue
