// Majority vote of signs: one byte a weight, and any order of the micro-batches gives the same
// bits.
#pragma once
#include <algorithm>

#include "accrue/autograd/grad_buffer.h"
#include "accrue/core/map.h"

namespace accrue::examples {

/// Each micro-batch votes for a sign; the mean gradient that optimizers read is the majority's: −1,
/// 0 or 1. Zero and NaN abstain. At most 127 micro-batches. The batch declares its count().
/// Source: Bernstein et al., "signSGD with majority vote", arXiv 1810.05291.
struct SignVote final : Accumulator {
  static constexpr int64_t most = 127;  // votes that an 8-bit integer holds

  std::string_view name() const override { return "sign_vote"; }
  bool fused() const override { return false; }
  SplitEquality split_equality() const override { return SplitEquality::none; }
  bool running_sum() const override { return false; }
  bool whole_micro() const override { return true; }
  bool needs_divisor() const override { return true; }
  bool shows_non_finite() const override { return false; }         // it votes, or abstains
  double error_bound(int64_t) const override { return INFINITY; }  // it is no sum
  std::vector<State> state(DType wide, const Shape&) const override {
    return {{"sum?", wide}, {"votes", DType::u8}};
  }
  bool live(const GradBuffer&, std::string_view state) const override { return state == "votes"; }

  void fold(GradBuffer& buffer, In micro, Write write) const override {
    // All of the cycle where they are known, so that none is computed in vain.
    const CycleFacts& facts = buffer.facts();
    const int64_t micro_batches = std::max(facts.micro_batches, facts.micro.value + 1);
    require(micro_batches <= most, "[sign_vote] expected at most ", most,
            " micro-batches in a cycle, got ", micro_batches, "; try larger ones");
    Tensor& votes = buffer.state("votes");
    auto* to = static_cast<int8_t*>(votes.out().data);
    for_blocks(votes.device(), votes.elements(), 1024, [=](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const auto g = load<double>(micro, i);
        const int before = write == Write::add ? to[i] : 0;
        to[i] = static_cast<int8_t>(before + (g > 0) - (g < 0));
      }
    });
  }

  bool finish(GradBuffer& buffer) const override {
    const double divisor = buffer.facts().divisor;  // optimizers will divide by it
    require(divisor > 0, "[sign_vote] expected the total of the cycle's counts; give the batch a ",
            "count(), or use Loss::share");
    Tensor& sum = buffer.state("sum");
    const auto* votes = static_cast<const int8_t*>(buffer.state("votes").in().data);
    const Out to = sum.out();
    for_blocks(sum.device(), sum.elements(), 1024, [=](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i)
        store(to, i, divisor * ((votes[i] > 0) - (votes[i] < 0)));
    });
    return true;
  }
};

}  // namespace accrue::examples
