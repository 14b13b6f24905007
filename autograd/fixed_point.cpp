// Integer sums of gradients times a power of two: associative, so that any order gives the same
// bits.
#include <algorithm>
#include <cmath>
#include <limits>

#include "accrue/autograd/accumulators.h"
#include "accrue/autograd/grad_buffer.h"
#include "accrue/core/map.h"

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
    return {{"sum", wide}, {"total", DType::i64}};
  }
  std::vector<std::string> numbers() const override {
    return {"range", "largest", "folds", "non_finite"};
  }
  bool live(const GradBuffer&, std::string_view state) const override { return state == "total"; }

  void fold(GradBuffer& buffer, In micro, Write write) const override {
    int64_t &range = buffer.number("range"), &largest = buffer.number("largest");
    if (write == Write::set) {
      if (range == 0) range = first_range + known;
      largest = buffer.number("folds") = buffer.number("non_finite") = 0;
    }
    ++buffer.number("folds");
    auto* totals = static_cast<int64_t*>(buffer.state("total").out().data);
    const double factor = std::ldexp(1.0, static_cast<int>(bits - (range - known)));
    double most = 0;
    bool finite = true;
    reduce_elements(buffer.state("total").device(), micro.shape.elements(), most, finite,
                    [=](int64_t i, double& seen, bool& all_finite) {
                      const auto g = detail::load<double>(micro, i);
                      if (!std::isfinite(g)) {
                        all_finite = false;
                        return;
                      }
                      seen = std::max(seen, std::abs(g));
                      const auto term = std::llrint(std::clamp(g * factor, -0x1p62, 0x1p62));
                      // Wraps where it overflows; finish() knows from the largest |g|.
                      const uint64_t before = write == Write::set ? 0 : totals[i];
                      totals[i] = static_cast<int64_t>(before + static_cast<uint64_t>(term));
                    });
    if (!finite) buffer.number("non_finite") = 1;
    if (most > 0) largest = std::max(largest, exponent_above(most) + known);
  }

  bool finish(GradBuffer& buffer) const override {
    Tensor& sum = buffer.state("sum");
    if (buffer.number("non_finite")) {
      launch(sum.device(), kernel::Fill{sum.out(), std::numeric_limits<double>::quiet_NaN()});
      return true;
    }
    int64_t& range = buffer.number("range");
    const int64_t used = range, largest = buffer.number("largest");
    if (largest > 0) {
      const int64_t folds = exponent_above(static_cast<double>(buffer.number("folds"))),
                    needed = largest + folds;
      range = std::max(needed + margin, least + known);  // for the next cycle, or this one again
      // K halves of a unit, 2^(folds + used − 63), are at most 2⁻²⁴ of the largest |g|.
      const int64_t coarsest = std::max(range, largest - 1 + 63 - 24 - folds);
      if (needed > used || used > coarsest) return false;
    }
    const auto* totals = static_cast<const int64_t*>(buffer.state("total").in().data);
    const double unit = std::ldexp(1.0, static_cast<int>(used - known - bits));
    const Out to = sum.out();
    for_blocks(sum.device(), sum.elements(), 1024, [=](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i)
        detail::store(to, i, static_cast<double>(totals[i]) * unit);
    });
    return true;
  }
};

}  // namespace

std::shared_ptr<const Accumulator> accumulators::fixed_point() {
  return std::make_shared<FixedPoint>();
}

}  // namespace accrue
