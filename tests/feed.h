// A GradBuffer that is fed by hand, as a cycle would: for accumulators alone.
#pragma once
#include <memory>

#include "support.h"

namespace accrue::test {

/// A parameter of its own, initialised.
inline std::shared_ptr<ParameterState> lone_parameter(const Shape& shape,
                                                      Where where = {Device::cpu(), DType::f32},
                                                      const std::string& name = "weight") {
  struct One {
    std::string name;
    Parameter weight;
    void visit(Visitor& part) { part(name, weight); }
  } one{name, Parameter(shape, zeros())};
  initialize(one, {where.device, where.dtype}, Seed{1});
  return one.weight.state();
}

/// One buffer and what its accumulator may know of the cycle.
struct Feed {
  CycleFacts facts;
  GradBuffer buffer;

  Feed(std::shared_ptr<const Accumulator> accumulator, int64_t weights,
       Where where = {Device::cpu(), DType::f32}, const std::string& name = "weight")
      : buffer(lone_parameter({weights}, where, name), std::move(accumulator), &facts) {}

  /// One micro-batch with one deposit; any tensor of as many elements.
  void micro(const Tensor& gradient) {
    buffer.expect();
    const Deposit d = buffer.place();
    launch(gradient.device(), kernel::Copy{gradient.in(), d.into, d.write});
    buffer.used();
    buffer.settle();
    ++facts.micro.value;
  }
  /// Closes and begins anew; the raw sums. Empty: the cycle must run again.
  Numbers close() {
    const bool good = buffer.finish();
    const Numbers sums = good ? numbers_of(buffer.sum()) : Numbers();
    buffer.close();
    buffer.clear();
    facts.micro = {};
    ++facts.index.value;
    return sums;
  }
  /// One cycle of these micro-batches, twice where the first one's range was too small.
  Numbers cycle(const std::vector<Tensor>& gradients) {
    for (int attempt = 0; attempt < 2; ++attempt) {
      for (const Tensor& one : gradients) micro(one);
      const Numbers sums = close();
      if (!sums.empty()) return sums;
    }
    FAIL("a cycle that was run again overflowed again");
    return {};
  }
};

/// K micro-gradients of the same weights, f32 numbers. number(k, weight).
template <class F>
std::vector<Tensor> micro_gradients(int64_t k, int64_t weights, const F& number) {
  std::vector<Tensor> all;
  for (int64_t i = 0; i < k; ++i) {
    Numbers numbers(weights);
    for (int64_t w = 0; w < weights; ++w) numbers[w] = number(i, w);
    all.push_back(tensor_of({weights}, numbers, {Device::cpu(), DType::f32}));
  }
  return all;
}

/// In ±[1/4, 1), other numbers for each micro-batch and weight.
inline double noise(int64_t k, int64_t weight) {
  const uint64_t bits = hash_of(static_cast<uint64_t>(weight), "noise", static_cast<uint64_t>(k));
  const double size = 0.25 + 0.75 * uniform01(static_cast<uint32_t>(bits));
  return bits >> 63 ? size : -size;
}

/// Σg and Σ|g| of each weight.
struct Exact {
  std::vector<long double> sum, absolute;
};

/// In long double: 64 bits, so that its own error of K·2⁻⁶⁴ is far below every bound here.
inline Exact exact_sums(const std::vector<Tensor>& gradients) {
  Exact result;
  result.sum = result.absolute = std::vector<long double>(gradients[0].elements());
  for (const Tensor& one : gradients) {
    const Numbers numbers = one.to_vector();
    for (size_t i = 0; i < numbers.size(); ++i) {
      result.sum[i] += numbers[i];
      result.absolute[i] += std::abs(numbers[i]);
    }
  }
  return result;
}

/// A model of one parameter: loss Σ x·w, so that a micro-gradient is x summed over its rows.
struct Dot {
  Parameter weight{Shape{64, 1}, zeros()};
  void visit(Visitor& part) { part("weight", weight); }
  Loss loss(const Rows& rows, double factor = 1) const {
    return Loss(scale(sum(matmul(rows.x, weight)), factor), rows.x.shape()[0]);
  }
};

}  // namespace accrue::test
