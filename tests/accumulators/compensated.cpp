// Neumaier and the bf16 Kahan: bounds, and what tells each from its simpler relatives.
#include "../../examples/accumulators/kahan_bf16.h"
#include "../../examples/accumulators/neumaier.h"
#include "sums.h"

namespace accrue::test {
namespace {

using examples::KahanBf16;
using examples::Neumaier;

std::vector<std::shared_ptr<const Accumulator>> compensated() {
  return {std::make_shared<Neumaier>(), std::make_shared<KahanBf16>(KahanBf16::Reading::high),
          std::make_shared<KahanBf16>(KahanBf16::Reading::high_minus_carry)};
}

double sum_of_numbers(std::shared_ptr<const Accumulator> accumulator, const Numbers& gradients) {
  Many all;
  for (double one : gradients) all.push_back({one});
  return sum_of(std::move(accumulator), {1}, all)[0];
}

}  // namespace

TEST_CASE("compensated sums stay within the bounds that they declare, for one sign and for both") {
  for (const auto& accumulator : compensated())
    for (int64_t k : {1, 2, 7, 64, 500, 2000})
      for (bool one_sign : {false, true}) {
        CAPTURE(accumulator->name());
        CAPTURE(k);
        Many gradients = random_gradients(k, 33, static_cast<uint64_t>(k));
        if (one_sign)
          for (Numbers& one : gradients) one = absolute_sum({one});
        const Numbers sum = sum_of(accumulator, {33}, gradients), exact = exact_sum(gradients),
                      size = absolute_sum(gradients);
        for (size_t i = 0; i < sum.size(); ++i)
          CHECK(std::abs(sum[i] - exact[i]) <= accumulator->error_bound(k) * size[i]);
      }
}

TEST_CASE("Neumaier keeps what a larger term would swallow; Kahan and f32 lose it") {
  const Numbers gradients{1, 0x1p60, 1, -0x1p60};
  CHECK(sum_of_numbers(std::make_shared<Neumaier>(), gradients) == 2);
  CHECK(sum_of_numbers(accumulators::kahan(), gradients) == 0);
  CHECK(sum_of_numbers(accumulators::f32(), gradients) == 0);
}

TEST_CASE("the next cycle begins without what the last one lost") {
  OneBuffer one(std::make_shared<Neumaier>(), {1});
  for (double number : {1.0, 0x1p-30})
    one.add(tensor_of({1}, {number}, {Device::cpu(), DType::f32}));
  CHECK(one.buffer().state("lost").item() == 0x1p-30);
  one.finish();
  one.clear();
  one.add(tensor_of({1}, {5}, {Device::cpu(), DType::f32}));
  one.finish();
  CHECK(one.sum() == Numbers{5});
  CHECK(one.buffer().state("lost").item() == 0);
}

TEST_CASE("a bf16 Kahan sum goes on where bf16 stalls; minus its carry it has twice the digits") {
  const Numbers ones(401, 1);
  const auto high = std::make_shared<KahanBf16>(KahanBf16::Reading::high);
  const auto both = std::make_shared<KahanBf16>(KahanBf16::Reading::high_minus_carry);
  CHECK(sum_of_numbers(accumulators::bf16(), ones) == 256);
  // bf16 knows even numbers between 256 and 512.
  CHECK(std::abs(sum_of_numbers(high, ones) - 401) == 1);
  CHECK(sum_of_numbers(both, ones) == 401);
}

TEST_CASE("what a bf16 Kahan sum needs between micro-batches is two bf16 numbers a weight") {
  OneBuffer one(std::make_shared<KahanBf16>(KahanBf16::Reading::high), {64});
  const Tensor gradient = random_tensor({64}, {Device::cpu(), DType::f32}, 1);
  const auto bytes = [] {
    return host_allocator().use().current[static_cast<int>(Tag::gradients)];
  };
  const int64_t between = bytes();
  for (int cycle = 0; cycle < 2; ++cycle) {
    one.add(gradient);
    CHECK(bytes() == between);
    one.finish();
    CHECK(bytes() == between + 256);  // the sum that optimizers read, f32
    one.clear();
    CHECK(bytes() == between);
  }
  CHECK(one.buffer().accumulator().bytes_per_weight(1) == 4);
}

}  // namespace accrue::test
