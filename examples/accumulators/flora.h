// Flora: sums of randomly projected gradients, a fraction of their size between micro-batches.
#pragma once
#include <cmath>

#include "accrue/autograd/grad_buffer.h"
#include "accrue/core/map.h"

namespace accrue::examples {

/// A += g·Πᵀ with Π [rank, columns] of independent N(0, 1/rank), drawn anew for each cycle and each
/// parameter and never stored; the sum is A·Π, right on average: E ΠᵀΠ = 1. 4·rank/columns bytes a
/// weight, for matrices wider than `rank`; others are added as they are.
/// Source: Hao, Cao, Mou, "Flora: low-rank adapters are secretly gradient compressors", arXiv
/// 2402.03293.
struct Flora final : Accumulator {
  int64_t rank;
  uint64_t seed;

  explicit Flora(int64_t r, Seed s = Seed{0}) : rank(r), seed(static_cast<uint64_t>(s.value)) {
    require(rank > 0, "[flora] expected a rank of at least 1, got ", rank);
  }
  bool compresses(const Shape& shape) const { return shape.rank == 2 && shape[1] > rank; }
  bool compresses(const GradBuffer& buffer) const {
    return compresses(buffer.parameter_state()->shape);
  }

  std::string_view name() const override { return "flora"; }
  bool fused() const override { return false; }
  SplitEquality split_equality() const override { return SplitEquality::none; }
  bool running_sum() const override { return false; }
  double error_bound(int64_t) const override { return INFINITY; }  // of the projection
  std::vector<State> state(DType wide, const Shape& shape) const override {
    if (!compresses(shape)) return {{"sum", wide}};
    return {{"sum?", wide}, {"projected", wide, {shape[0], rank}}};
  }
  bool live(const GradBuffer& buffer, std::string_view state) const override {
    return !compresses(buffer) || state == "projected";
  }

  void fold(GradBuffer& buffer, In micro, Write write) const override {
    if (!compresses(buffer)) return Accumulator::fold(buffer, micro, write);
    Tensor& to = buffer.state("projected");
    launch(to.device(),
           kernel::Matmul{micro, projection(buffer).transpose(0, 1).in(), to.out(), write});
  }
  bool finish(GradBuffer& buffer) const override {
    if (!compresses(buffer)) return true;
    Tensor& sum = buffer.state("sum");
    launch(sum.device(), kernel::Matmul{buffer.state("projected").in(), projection(buffer).in(),
                                        sum.out(), Write::set});
    return true;
  }

  /// Π of this parameter in this cycle.
  Tensor projection(const GradBuffer& buffer) const {
    const ParameterState& parameter = *buffer.parameter_state();
    const TagScope tag(Tag::workspace);
    Tensor result({rank, parameter.shape[1]}, parameter.master.dtype(), parameter.master.device());
    const RandomKey key{hash_of(seed, buffer.parameter()), buffer.facts().index.value};
    const double deviation = 1 / std::sqrt(static_cast<double>(rank));
    const Out to = result.out();
    for_blocks(result.device(), result.elements(), 4, [=](int64_t first, int64_t last) {
      const auto bits = key.draw(0, static_cast<uint64_t>(first / 4));
      for (int64_t i = first; i < last; ++i) {
        const int64_t pair = (i - first) / 2 * 2;
        store(to, i, deviation * normal_pair(bits[pair], bits[pair + 1])[i % 2]);
      }
    });
    return result;
  }
};

}  // namespace accrue::examples
