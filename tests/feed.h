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

}  // namespace accrue::test
