#include "accrue/autograd/filter.h"

#include <charconv>
#include <cmath>
#include <vector>

namespace accrue {
namespace {

double dot(std::span<const In> a, std::span<const In> b, Device device) {
  if (a.empty()) return 0;
  const TagScope tag(Tag::workspace);
  Tensor result({1}, DType::f64, device);
  launch(device, kernel::Dot{a, b, result.out()});
  return result.item();
}

/// As parse() reads it, with all digits.
std::string choice_of(std::string_view name, double number) {
  char digits[32];
  return text(name, ':', std::string_view(digits, std::to_chars(digits, digits + 32, number).ptr));
}

struct Clip final : Filter {
  double limit;
  explicit Clip(double c) : limit(c) { require(c > 0, "[clip] expected a limit above 0, got ", c); }
  std::string name() const override { return choice_of("clip", limit); }
  SplitEquality split_equality() const override { return SplitEquality::none; }
  bool may_drop() const override { return false; }
  // A gradient that is not finite is kept as it is: hiding it is not this filter's business.
  double judge(const MicroGrads& g) const override {
    return std::isfinite(g.norm()) && g.norm() > limit ? limit / g.norm() : 1;
  }
};

struct Agreement final : Filter {
  double tau;
  explicit Agreement(double t) : tau(t) {
    require(t >= 0 && t <= 2, "[agreement] expected a threshold in [0, 2], got ", t);
  }
  std::string name() const override { return choice_of("agreement", tau); }
  SplitEquality split_equality() const override { return SplitEquality::none; }
  bool reads_sums() const override { return true; }
  double judge(const MicroGrads& g) const override {
    const std::optional<double> cosine = g.cosine();
    return cosine && 1 - *cosine > tau ? 0 : 1;  // kept where it is NaN, as by clip
  }
};

struct DropNonFinite final : Filter {
  std::string name() const override { return "drop-non-finite"; }
  bool admit(const Tensor& loss) const override { return std::isfinite(loss.item()); }
  double judge(const MicroGrads& g) const override { return std::isfinite(g.norm()) ? 1 : 0; }
};

struct Observe final : Filter {
  std::string name() const override { return "observe"; }
  bool may_drop() const override { return false; }
  double judge(const MicroGrads&) const override { return 1; }
};

double number_in(std::string_view choice, size_t colon) {
  double value = 0;
  const char *first = choice.data() + std::min(colon + 1, choice.size()),
             *last = choice.data() + choice.size();
  const auto [end, error] = std::from_chars(first, last, value);
  require(colon != std::string_view::npos && error == std::errc() && end == last,
          "[filter] expected a number after the colon, got ", choice,
          "; try clip:100 or agreement:0.9");
  return value;
}

}  // namespace

double MicroGrads::norm() const {
  if (norm_) return *norm_;
  std::vector<In> micro;
  for (const auto& buffer : buffers_)
    if (buffer->micro()) micro.push_back(buffer->micro().in());
  const Device device = buffers_[0]->parameter_state()->master.device();
  return *(norm_ = std::sqrt(dot(micro, micro, device)) / loss_scale_);
}

std::optional<double> MicroGrads::cosine() const {
  if (cosine_) return cosine_;
  std::vector<In> micro, sums, both;
  for (const auto& buffer : buffers_) {
    if (!buffer->accumulator().running_sum()) return std::nullopt;
    const In sum = buffer->sum();
    if (sum) sums.push_back(sum);
    if (!sum || !buffer->micro()) continue;
    micro.push_back(buffer->micro().in());
    both.push_back(sum);
  }
  if (sums.empty()) return std::nullopt;
  const Device device = buffers_[0]->parameter_state()->master.device();
  const double lengths = std::sqrt(dot(sums, sums, device)) * norm() * loss_scale_;
  return cosine_ = lengths == 0 ? 0 : dot(micro, both, device) / lengths;
}

namespace filters {

std::shared_ptr<const Filter> clip(double limit) { return std::make_shared<Clip>(limit); }
std::shared_ptr<const Filter> agreement(double tau) { return std::make_shared<Agreement>(tau); }
std::shared_ptr<const Filter> drop_non_finite() { return std::make_shared<DropNonFinite>(); }
std::shared_ptr<const Filter> observe() { return std::make_shared<Observe>(); }

std::shared_ptr<const Filter> parse(std::string_view choice) {
  const size_t colon = choice.find(':');
  const std::string_view name = choice.substr(0, colon);
  if (name == "clip") return clip(number_in(choice, colon));
  if (name == "agreement") return agreement(number_in(choice, colon));
  if (choice == "drop-non-finite") return drop_non_finite();
  if (choice == "observe") return observe();
  throw BadArgument(text(
      "[filter] expected clip:LIMIT, agreement:TAU, drop-non-finite or observe, got ", choice));
}

}  // namespace filters
}  // namespace accrue
