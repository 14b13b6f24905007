// Integer sums of gradients times a power of two: associative, so that any order gives the same
// bits.
#include <algorithm>
#include <cmath>
#include <limits>

#include "accrue/autograd/accumulators.h"
#include "accrue/autograd/grad_buffer.h"

namespace accrue {
namespace {

// Sums stay below 2^range, so that an i64 has 62 − range bits behind the point. `least` keeps the
// unit's reciprocal finite.
constexpr int64_t bits = 62, first_range = 16, margin = 3, least = -900;
// The range is learned from this process's gradients: ranks must agree on the largest before they
// add their integers.
// What a number holds where 0 means: not known.
constexpr int64_t known = 10'000;

/// The smallest e with x ≤ 2^e.
int64_t exponent_above(double x) { return static_cast<int64_t>(std::ceil(std::log2(x))); }

struct FixedPoint final : Accumulator {
  std::string_view name() const override { return "fixed_point"; }
  bool fused() const override { return false; }
  bool running_sum() const override { return false; }
  bool whole_micro() const override { return true; }
  bool may_overflow() const override { return true; }
  // One rounding to f32, and as much at most by the units, or else the cycle runs again in finer
  // ones; where K is so large that there are none, K halves of a unit whose range is at most
  // margin + 2 above log₂(K·max|g|). Of the tensor's largest weight.
  double error_bound(int64_t k) const override {
    const auto terms = static_cast<double>(k);
    return 0x1p-24 + std::max(0x1p-24, std::ldexp(terms * terms, margin + 2 - 63));
  }
  std::vector<State> state(DType wide, const Shape&) const override {
    return {{"sum", wide}, {"total", DType::i64}, {"largest", DType::f64, {1}}};
  }
  double bytes_per_weight(int64_t, DType wide) const override {
    return static_cast<double>(size_of(wide) + size_of(DType::i64));
  }
  std::vector<std::string> numbers() const override { return {"range", "folds"}; }
  bool live(const GradBuffer&, std::string_view state) const override { return state != "sum"; }

  void fold(GradBuffer& buffer, In micro, Write write) const override {
    int64_t &range = buffer.number("range"), &folds = buffer.number("folds");
    if (write == Write::set) {
      if (range == 0) range = first_range + known;
      folds = 0;
    }
    ++folds;
    Tensor& total = buffer.state("total");
    const double factor = std::ldexp(1.0, static_cast<int>(bits - (range - known)));
    // Totals wrap where they overflow; finish() knows from the largest |g|.
    launch(total.device(),
           kernel::FixedPointAdd{micro, total.out(), buffer.state("largest").out(), write, factor});
  }

  bool finish(GradBuffer& buffer) const override {
    Tensor& sum = buffer.state("sum");
    const double largest = buffer.state("largest").item();
    if (!std::isfinite(largest)) {
      launch(sum.device(), kernel::Fill{sum.out(), std::numeric_limits<double>::quiet_NaN()});
      return true;
    }
    int64_t& range = buffer.number("range");
    const int64_t used = range;
    if (largest > 0 && current_mode() == Mode::run) {
      // Of the whole cycle where it is known: of several ranks, each folds a part.
      const int64_t terms = std::max(buffer.number("folds"), buffer.facts().micro_batches);
      const int64_t most = exponent_above(largest) + known,
                    folds = exponent_above(static_cast<double>(terms)), needed = most + folds;
      range = std::max(needed + margin, least + known);  // for the next cycle, or this one again
      // K halves of a unit, 2^(folds + used − 63), are at most 2⁻²⁴ of the largest |g|.
      const int64_t coarsest = std::max(range, most - 1 + 63 - 24 - folds);
      if (needed > used || used > coarsest) return false;
    }
    launch(sum.device(), kernel::Copy{buffer.state("total").in(), sum.out(), Write::set});
    // The unit in two factors: as one, f32 may have no such number.
    const auto exponent = static_cast<int>(used - known - bits);
    for (int part : {exponent / 2, exponent - exponent / 2})
      launch(sum.device(),
             kernel::Scale{sum.in(), {}, std::ldexp(1.0, part), sum.out(), Write::set});
    return true;
  }
};

}  // namespace

std::shared_ptr<const Accumulator> accumulators::fixed_point() {
  return std::make_shared<FixedPoint>();
}

}  // namespace accrue
