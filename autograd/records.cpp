#include "accrue/autograd/records.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace accrue {
namespace {

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Tensor table(int64_t rows, Device device) {
  const TagScope tag(Tag::gradients);
  return Tensor({rows, 2}, DType::f64, device);
}

}  // namespace

void Records::begin(int64_t samples) {
  const auto used = static_cast<int64_t>(rows_.size());
  // What a dry run made has no memory.
  if (!figures_ || (current_mode() == Mode::run && !figures_.in().data))
    figures_ = table(std::max<int64_t>(32, used), device_);
  if (used == figures_.shape()[0]) {
    Tensor larger = table(2 * used, figures_.device());
    launch(larger.device(), kernel::Copy{figures_.in(), larger.slice(0, used).out(), Write::set});
    figures_ = larger;
  }
  rows_.emplace_back().samples = samples;
  began_ = seconds();
}

void Records::loss(const Tensor& sum, const Tensor& count, std::optional<int64_t> bytes) {
  const Allocator& memory = *sum.device().backend->memory;
  rows_.back().bytes = bytes ? *bytes : memory.use(current_mode() == Mode::dry).total;
  Tensor row = figures_.slice(static_cast<int64_t>(rows_.size()) - 1, 1).reshape({2});
  // A replay's loss lies elsewhere.
  launch(device_, kernel::Copy{sum.to(device_).in(), row.slice(0, 1).out(), Write::set});
  if (count)
    launch(device_, kernel::Copy{count.in(), row.slice(1, 1).out(), Write::set});
  else
    launch(device_, kernel::Fill{row.slice(1, 1).out(), 1});
}

void Records::judged(double factor, const MicroGrads& gradients) {
  MicroRecord& row = rows_.back();
  row.factor = factor;
  row.gradient_norm = gradients.norm();
  row.cosine = gradients.cosine();
}

void Records::dropped() { rows_.back().factor = 0; }

void Records::end() { rows_.back().milliseconds = (seconds() - began_) * 1e3; }

std::vector<MicroRecord> Records::read() const {
  std::vector<MicroRecord> result = rows_;
  if (result.empty()) return result;
  const std::vector<double> figures = figures_.to_vector();
  for (size_t i = 0; i < result.size(); ++i) {
    result[i].loss = figures[2 * i];
    result[i].count = result[i].factor == 0 ? 0 : figures[2 * i + 1];
    result[i].non_finite =
        !std::isfinite(result[i].loss) || !std::isfinite(result[i].gradient_norm.value_or(0));
  }
  return result;
}

}  // namespace accrue
