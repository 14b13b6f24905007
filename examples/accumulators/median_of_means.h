// Median of means: fewer than half of the groups of micro-batches can be arbitrarily wrong.
#pragma once
#include <algorithm>
#include <cmath>

#include "accrue/autograd/grad_buffer.h"
#include "accrue/core/map.h"

namespace accrue::examples {

/// Micro-batch k is added to group k mod G; the sum is, element by element, K times the median of
/// the groups' means. Micro-batches should be of one size. 4·G bytes a weight.
/// Source: Lugosi, Mendelson, "Mean estimation and regression under heavy-tailed distributions",
/// arXiv 1906.04280.
struct MedianOfMeans final : Accumulator {
  int64_t groups;

  explicit MedianOfMeans(int64_t count) : groups(count) {
    require(groups > 0 && groups < 64, "[median_of_means] expected 1 to 63 groups, got ", groups);
  }
  // The first group's sum makes room for the result.
  static std::string group(int64_t g) { return g == 0 ? "sum" : text("sum", g); }

  std::string_view name() const override { return "median_of_means"; }
  bool fused() const override { return false; }
  SplitEquality split_equality() const override { return SplitEquality::none; }
  bool running_sum() const override { return false; }
  bool whole_micro() const override { return true; }
  bool bears_drops() const override { return false; }       // a group is divided by its size
  bool shows_non_finite() const override { return false; }  // a minority of groups is outvoted
  double error_bound(int64_t) const override { return INFINITY; }  // of the sum, by design
  std::vector<State> state(DType wide, const Shape&) const override {
    std::vector<State> all;
    for (int64_t g = 0; g < groups; ++g) all.push_back({group(g), wide});
    return all;
  }
  std::vector<std::string> numbers() const override { return {"present"}; }  // bit g: group g
  bool live(const GradBuffer& buffer, std::string_view state) const override {
    for (int64_t g = 0; g < groups; ++g)
      if (state == group(g)) return buffer.number("present") >> g & 1;
    return false;
  }

  void fold(GradBuffer& buffer, In micro, Write write) const override {
    int64_t& present = buffer.number("present");
    if (write == Write::set) present = 0;
    const int64_t g = buffer.facts().micro.value % groups, bit = int64_t{1} << g;
    Tensor& to = buffer.state(group(g));
    launch(to.device(), kernel::Copy{micro, to.out(), present & bit ? Write::add : Write::set});
    present |= bit;
  }

  bool finish(GradBuffer& buffer) const override {
    const CycleFacts& facts = buffer.facts();
    const int64_t k = std::max(facts.micro_batches, facts.micro.value), used = std::min(k, groups);
    std::vector<In> sums;  // absent: no micro-batch of the group touched this parameter
    for (int64_t g = 0; g < used; ++g)
      sums.push_back(buffer.number("present") >> g & 1 ? buffer.state(group(g)).in() : In());
    Tensor& sum = buffer.state("sum");
    const Out to = sum.out();
    const auto nan_last = [](double a, double b) { return std::isnan(b) ? !std::isnan(a) : a < b; };
    for_blocks(sum.device(), sum.elements(), 1024, [&](int64_t first, int64_t last) {
      std::vector<double> means(used);
      for (int64_t i = first; i < last; ++i) {
        for (int64_t g = 0; g < used; ++g) {
          const auto size = static_cast<double>((k - g + groups - 1) / groups);
          means[g] = sums[g] ? load<double>(sums[g], i) / size : 0;
        }
        std::sort(means.begin(), means.end(), nan_last);
        store(to, i, static_cast<double>(k) * (means[(used - 1) / 2] + means[used / 2]) / 2);
      }
    });
    return true;
  }
};

}  // namespace accrue::examples
