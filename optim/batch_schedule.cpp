#include "accrue/optim/batch_schedule.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "accrue/core/error.h"
#include "accrue/optim/visit_number.h"

namespace accrue {
namespace {

int64_t whole_number(std::string_view digits, std::string_view words) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  require(error == std::errc() && end == digits.data() + digits.size(),
          "[batch_table] expected STEP:SAMPLES,…, got '", words, "'; try 0:32,1000:64");
  return value;
}

}  // namespace

BatchTable::BatchTable(std::vector<Entry> entries) : entries_(std::move(entries)) {
  require(!entries_.empty() && entries_[0].from == Step{0},
          "[batch_table] expected a first entry for step 0; try 0:32,1000:64");
  for (size_t i = 0; i < entries_.size(); ++i) {
    require(entries_[i].samples > 0, "[batch_table] expected batches of at least one sample, got ",
            entries_[i].samples, " from step ", entries_[i].from.value);
    require(i == 0 || entries_[i - 1].from < entries_[i].from,
            "[batch_table] expected steps that rise, got ", entries_[i].from.value, " after ",
            entries_[i > 0 ? i - 1 : 0].from.value);
  }
}

BatchTable BatchTable::parse(std::string_view words) {
  std::vector<Entry> entries;
  for (std::string_view rest = words;;) {
    const size_t comma = rest.find(',');
    const std::string_view entry = rest.substr(0, comma);
    const size_t colon = std::min(entry.find(':'), entry.size());
    const std::string_view samples = entry.substr(std::min(colon + 1, entry.size()));
    entries.push_back(
        {Step{whole_number(entry.substr(0, colon), words)}, whole_number(samples, words)});
    if (comma == std::string_view::npos) return BatchTable(std::move(entries));
    rest.remove_prefix(comma + 1);
  }
}

int64_t BatchTable::operator()(Step step) const {
  const auto after = std::ranges::upper_bound(entries_, step, {}, &Entry::from);
  return after == entries_.begin() ? entries_[0].samples : std::prev(after)->samples;
}

int64_t BatchTable::largest() const {
  return std::ranges::max(entries_, {}, &Entry::samples).samples;
}

Step BatchTable::step_after(int64_t samples) const {
  for (size_t i = 0;; ++i) {
    const auto& [from, batch] = entries_[i];
    const int64_t steps = samples > 0 ? (samples - 1) / batch + 1 : 0;
    if (i + 1 == entries_.size()) return Step{from.value + steps};
    const int64_t length = entries_[i + 1].from.value - from.value;
    if (steps <= length) return Step{from.value + steps};
    samples -= length * batch;
  }
}

int64_t BatchLimits::fit(double samples) const {
  const double bounded =
      std::clamp(samples, static_cast<double>(smallest), static_cast<double>(largest));
  return std::llround(bounded / static_cast<double>(multiple)) * multiple;
}

void BatchLimits::check(int64_t start) const {
  require(multiple > 0 && smallest > 0 && smallest % multiple == 0 && largest % multiple == 0,
          "[batch_schedule] expected limits that are multiples of ", multiple, ", got ", smallest,
          " and ", largest);
  require(smallest <= start && start <= largest, "[batch_schedule] expected a first batch from ",
          smallest, " to ", largest, " samples, got ", start);
}

BatchByNoise::BatchByNoise(int64_t start, NoiseBatchConfig config)
    : batch_(start), config_(config) {
  config.limits.check(start);
  require(config.hysteresis >= 1, "[batch_schedule] expected a hysteresis of at least 1, got ",
          config.hysteresis);
}

void BatchByNoise::noise_seen(Step step, double noise_scale) {
  require(noise_scale >= 0, "[batch_schedule] expected a noise scale of at least 0, got ",
          noise_scale);
  if (step < config_.hold) return;
  const int64_t next = config_.limits.fit(noise_scale);
  const double change = static_cast<double>(next) / static_cast<double>(batch_);
  if (std::max(change, 1 / change) >= config_.hysteresis) batch_ = next;
}

void BatchByNoise::visit(Visitor& part) { part("batch", batch_); }

BatchByPlateau::BatchByPlateau(int64_t start, PlateauBatchConfig config)
    : batch_(start), config_(config) {
  config.limits.check(start);
  require(config.factor > 1 && config.patience > 0 && config.improvement >= 0,
          "[batch_schedule] expected a factor above 1, a patience of at least 1 and an improvement "
          "of at least 0, got ",
          config.factor, ", ", config.patience, " and ", config.improvement);
}

void BatchByPlateau::validation_seen(double loss) {
  if (loss < best_ * (1 - config_.improvement)) {
    best_ = loss;
    waited_ = 0;
  } else if (++waited_ == config_.patience) {
    const double wanted = static_cast<double>(batch_) * config_.factor;
    const auto next = static_cast<double>(batch_ + config_.limits.multiple);
    batch_ = config_.limits.fit(std::max(wanted, next));  // a small factor must not round to 1
    waited_ = 0;
  }
}

void BatchByPlateau::visit(Visitor& part) {
  part("batch", batch_);
  part("waited", waited_);
  visit_number(part, "best", best_);
}

}  // namespace accrue
