#include "measure.h"

#include <cmath>

#include "../accumulators/flora.h"
#include "../accumulators/kahan_bf16.h"
#include "../accumulators/median_of_means.h"
#include "../accumulators/neumaier.h"
#include "../accumulators/one_buffer.h"

namespace accrue::examples {
namespace {

using Numbers = std::vector<double>;

/// Exact for our purpose: K·2⁻⁵³ of Σ|g|.
struct Exact {
  Numbers sum, absolute;
};

Exact exact_sum(const Gradients& gradients, int64_t k) {
  const int64_t n = gradients.micro[0].elements();
  Exact result{Numbers(n), Numbers(n)};
  for (int64_t j = 0; j < k; ++j) {
    const auto* numbers = gradients.micro[j].data<float>();
    for (int64_t i = 0; i < n; ++i) {
      result.sum[i] += numbers[i];
      result.absolute[i] += std::abs(numbers[i]);
    }
  }
  return result;
}

double norm(const Numbers& numbers) {
  double squares = 0;
  for (double one : numbers) squares += one * one;
  return std::sqrt(squares);
}

Numbers sum_of(const std::shared_ptr<const Accumulator>& accumulator, const Gradients& gradients,
               int64_t k) {
  CycleFacts facts;
  facts.micro_batches = k;
  OneBuffer one(accumulator, gradients.micro[0].shape(), facts);
  // An accumulator that learns its range from the first cycle is measured in the second.
  for (int cycle = accumulator->may_overflow() ? 0 : 1; cycle < 2; ++cycle) {
    one.clear();
    for (int64_t j = 0; j < k; ++j) one.add(gradients.micro[j]);
    require(one.finish() || cycle == 0, "[measure] expected sums within the range that ",
            accumulator->name(), " has learned");
  }
  return one.sum();
}

}  // namespace

std::vector<std::shared_ptr<const Accumulator>> measured_accumulators() {
  auto result = accumulators::all();
  result.push_back(std::make_shared<Neumaier>());
  result.push_back(std::make_shared<KahanBf16>(KahanBf16::Reading::high));
  result.push_back(std::make_shared<KahanBf16>(KahanBf16::Reading::high_minus_carry));
  result.push_back(std::make_shared<MedianOfMeans>(5));
  result.push_back(std::make_shared<Flora>(64));
  return result;
}

std::vector<Measured> measure(const Gradients& gradients, const Progress& progress) {
  const auto all = static_cast<int64_t>(gradients.micro.size());
  std::vector<Measured> result;
  for (int64_t k = 1; k <= all; k = k < all ? std::min(2 * k, all) : all + 1) {
    const Exact exact = exact_sum(gradients, k);
    const double size = norm(exact.sum);
    for (const auto& accumulator : measured_accumulators()) {
      progress(std::string(accumulator->name()).c_str(), k, all);
      Numbers off = sum_of(accumulator, gradients, k);
      for (size_t i = 0; i < off.size(); ++i) off[i] -= exact.sum[i];
      result.push_back({gradients.name, std::string(accumulator->name()), k, norm(off) / size,
                        accumulator->error_bound(k) * norm(exact.absolute) / size});
    }
  }
  return result;
}

double sum_of_ones(const std::shared_ptr<const Accumulator>& accumulator, int64_t terms) {
  const float number = 1;
  const Tensor one = Tensor::of<float>({1}, {&number, 1}, Device::cpu());
  OneBuffer buffer(accumulator, {1});
  for (int64_t i = 0; i < terms; ++i) buffer.add(one);
  buffer.finish();
  return buffer.sum()[0];
}

}  // namespace accrue::examples
