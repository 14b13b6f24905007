#include "timing.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <random>

namespace accrue::bench {
namespace {

constexpr int64_t block_elements = 4'194'301;  // a prime: rows of no width line up with it

Tensor random_block(Device device) {
  static Tensor block = [&] {
    std::mt19937 generator(7);
    std::vector<float> numbers(block_elements);
    for (float& x : numbers) x = static_cast<float>(static_cast<int32_t>(generator())) * 0x1p-32f;
    return Tensor::of<float>({block_elements}, numbers, device);
  }();
  return block.to(device);
}

double host_copy_bandwidth() {
  constexpr size_t bytes = size_t{1} << 30;
  std::vector<char> from(bytes, 1), to(bytes, 2);
  std::vector<double> rates;
  for (int r = 0; r < 5; ++r) {
    const double start = now();
#pragma omp parallel for
    for (int part = 0; part < 64; ++part)
      std::memcpy(&to[part * (bytes / 64)], &from[part * (bytes / 64)], bytes / 64);
    rates.push_back(2.0 * bytes / (now() - start));
  }
  return median(rates);
}

}  // namespace

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::pair<double, double> interval_of_median(std::vector<double> values) {
  std::ranges::sort(values);
  // How many values lie below the median is binomial, nearly normal: n / 2 ± 1.96 √n / 2.
  const double count = static_cast<double>(values.size());
  const size_t rank = static_cast<size_t>(std::max(1.0, count / 2 - 0.98 * std::sqrt(count))) - 1;
  return {values[rank], values[values.size() - 1 - rank]};
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

void wait(Device device) {
  if (device.on_host()) return;
  static const Tensor number = Tensor::scalar(0, DType::f32, device);
  float host;
  number.copy_to_host(&host);
}

double seconds_per_call(Device device, int repeats, const std::function<void()>& call) {
  const auto timed = [&](int calls) {
    const double start = now();
    for (int i = 0; i < calls; ++i) call();
    wait(device);
    return (now() - start) / calls;
  };
  timed(1);
  const int calls = device.on_host() ? 1 : std::clamp<int>(std::ceil(5e-3 / timed(1)), 1, 1000);
  std::vector<double> seconds;
  for (int r = 0; r < repeats; ++r) seconds.push_back(timed(calls));
  return median(seconds);
}

Tensor random_tensor(const Shape& shape, DType dtype, Device device) {
  const Tensor block = random_block(device);
  Tensor result(shape, dtype, device), flat = result.reshape({-1});
  for (int64_t first = 0; first < flat.elements(); first += block_elements) {
    const int64_t count = std::min(block_elements, flat.elements() - first);
    launch(device,
           kernel::Copy{block.slice(0, count).in(), flat.slice(first, count).out(), Write::set});
  }
  return result;
}

Tensor random_ids(const Shape& shape, int64_t limit, Device device) {
  std::mt19937 generator(1);
  std::vector<int32_t> ids(static_cast<size_t>(shape.elements()));
  for (int32_t& x : ids) x = static_cast<int32_t>(generator() % limit);
  return Tensor::of<int32_t>(shape, ids, device);
}

double copy_bandwidth(Device device) {
  if (device.on_host()) return host_copy_bandwidth();
  constexpr int64_t elements = int64_t{1} << 28;  // 1 GiB
  const Tensor from = random_tensor({elements}, DType::f32, device);
  Tensor to({elements}, DType::f32, device);
  return 8.0 * elements / seconds_per_call(device, 7, [&] {
           launch(device, kernel::Copy{from.in(), to.out(), Write::set});
         });
}

}  // namespace accrue::bench
