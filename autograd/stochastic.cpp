// bf16 sums with stochastic rounding: up or down by chance, right on average.
#include "accrue/autograd/accumulators.h"
#include "accrue/autograd/grad_buffer.h"

namespace accrue {
namespace {

struct Stochastic final : Accumulator {
  Seed seed;
  explicit Stochastic(Seed s) : seed(s) {}
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
    const RandomKey key{hash_of(static_cast<uint64_t>(seed.value), buffer.parameter(),
                                static_cast<uint64_t>(folds)),
                        facts.index.value};
    launch(sum.device(), kernel::StochasticAdd{micro, sum.out(), write, key});
  }
};

}  // namespace

std::shared_ptr<const Accumulator> accumulators::bf16_stochastic(Seed seed) {
  return std::make_shared<Stochastic>(seed);
}

}  // namespace accrue
