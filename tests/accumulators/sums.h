// What the tests of examples/accumulators share: one buffer, a few gradients, a bound.
#pragma once
#include "../../examples/accumulators/one_buffer.h"
#include "support.h"

namespace accrue::test {

using examples::OneBuffer;

/// The sum of these gradients, each a micro-batch of its own.
inline Numbers sum_of(std::shared_ptr<const Accumulator> accumulator, const Shape& shape,
                      const Many& gradients, CycleFacts facts = {},
                      Where where = {Device::cpu(), DType::f32}) {
  OneBuffer one(std::move(accumulator), shape, facts, {where.device, where.dtype});
  for (const Numbers& gradient : gradients) one.add(tensor_of(shape, gradient, where));
  const bool finished = one.finish();
  REQUIRE(finished);
  return one.sum();
}

/// K gradients of n numbers that f32 holds.
inline Many random_gradients(int64_t k, int64_t n, uint64_t seed, double scale = 1) {
  Many all;
  for (int64_t i = 0; i < k; ++i) {
    const auto numbers = random_numbers(n, seed * 1000 + static_cast<uint64_t>(i), scale);
    all.push_back(tensor_of({n}, numbers, {Device::cpu(), DType::f32}).to_vector());
  }
  return all;
}

inline Numbers exact_sum(const Many& gradients) {
  Numbers sum(gradients[0].size());
  for (const Numbers& one : gradients)
    for (size_t i = 0; i < one.size(); ++i) sum[i] += one[i];
  return sum;
}

inline Numbers absolute_sum(Many gradients) {
  for (Numbers& one : gradients)
    for (double& number : one) number = std::abs(number);
  return exact_sum(gradients);
}

}  // namespace accrue::test
