// Windows of tokens into batches.
#include "accrue/nn/loader.h"

#include <algorithm>
#include <numeric>

#include "accrue/core/error.h"
#include "accrue/core/philox.h"

namespace accrue {
namespace {

// Rows are collected on the host and go to the device at once.
struct Rows {
  Shape shape;  // [B, T]
  std::vector<int32_t> inputs, targets;
  std::vector<int64_t> indices;

  Rows(int64_t count, int64_t context)
      : shape({count, context}), inputs(count * context), targets(inputs), indices(count) {}

  void fill(int64_t row, int64_t index, const Tokens& tokens, int64_t first) {
    tokens.copy(first, shape[1], &inputs[row * shape[1]]);
    tokens.copy(first + 1, shape[1], &targets[row * shape[1]]);
    indices[row] = index;
  }
  TokenBatch on(Device device) {
    const std::vector<int64_t> counts(indices.size(), shape[1]);  // no padding
    return {Tensor::of<int32_t>(shape, inputs, device), Tensor::of<int32_t>(shape, targets, device),
            std::move(indices), counts};
  }
};

uint64_t random_below(uint64_t bound, const RandomKey& key, int64_t index) {
  const auto bits = key.draw(index, 0);
  return (uint64_t{bits[0]} << 32 | bits[1]) % bound;  // biased by less than bound · 2⁻⁶⁴
}

}  // namespace

TokenBatch TokenBatch::slice(int64_t first, int64_t count) const {
  Tensor part = tokens.slice(first, count);  // checks the range
  const auto of = [=](const std::vector<int64_t>& all) {
    return all.empty() ? all : std::vector(all.begin() + first, all.begin() + first + count);
  };
  return {std::move(part), targets.slice(first, count), of(indices), of(counts)};
}

int64_t TokenBatch::count() const {
  if (!counts.empty()) return std::accumulate(counts.begin(), counts.end(), int64_t{0});
  const int64_t n = targets.elements();
  if (!targets.in().data) return n;  // a dry run
  const std::vector<double> all = targets.to_vector();
  return n - std::ranges::count(all, -100.0);
}

int64_t windows(const Tokens& tokens, int64_t context) {
  require(context > 0, "[windows] expected a context of at least 1 token, got ", context);
  return tokens.size() > 0 ? (tokens.size() - 1) / context : 0;
}

TokenBatch window_batch(const Tokens& tokens, int64_t first_window, int64_t count, int64_t context,
                        Device device) {
  const int64_t all = windows(tokens, context);
  require(first_window >= 0 && count > 0 && first_window <= all && count <= all - first_window,
          "[window_batch] expected windows among ", all, " of ", context, " tokens, got ", count,
          " from ", first_window, "; try a longer text or a shorter context");
  Rows rows(count, context);
  for (int64_t row = 0, window = first_window; row < count; ++row, ++window)
    rows.fill(row, window, tokens, window * context);
  return rows.on(device);
}

TokenLoader::TokenLoader(Tokens tokens, const LoaderOptions& options)
    : tokens_(std::move(tokens)), options_(options) {
  const int64_t context = options.context, size = tokens_.size();
  require(context > 0 && options.batch > 0,
          "[loader] expected a context and a batch of at least 1, got ", context, " and ",
          options.batch);
  require(context < size, "[loader] expected more tokens than the context of ", context, ", got ",
          size, "; try a longer text or a shorter context");
  // As many windows as fit behind the largest shift, so that every epoch has the same number.
  samples_ = std::max<int64_t>((size - context) / context, 1);
}

void TokenLoader::set_batch(int64_t samples) {
  require(samples > 0, "[loader] expected a batch of at least one sample, got ", samples);
  options_.batch = samples;
}

void TokenLoader::shuffle(int64_t epoch) {
  if (shuffled_ == epoch) return;
  const auto seed = static_cast<uint64_t>(options_.seed.value);
  const int64_t room = tokens_.size() - 1 - samples_ * options_.context;
  const auto shifts = static_cast<uint64_t>(std::min(room + 1, options_.context));
  shift_ = static_cast<int64_t>(random_below(shifts, {hash_of(seed, "loader.shift"), epoch}, 0));
  order_.resize(static_cast<size_t>(samples_));
  std::iota(order_.begin(), order_.end(), 0);
  const RandomKey key{hash_of(seed, "loader.order"), epoch};
  for (int64_t i = samples_ - 1; i > 0; --i)  // Fisher–Yates
    std::swap(order_[i], order_[random_below(static_cast<uint64_t>(i) + 1, key, i)]);
  shuffled_ = epoch;
}

TokenBatch TokenLoader::peek() {
  require(epoch_ >= 0 && position_ >= 0 && position_ < samples_,
          "[loader] expected a position within an epoch of ", samples_, " samples, got ", position_,
          " in epoch ", epoch_, "; was the state saved with other data or another context?");
  Rows rows(options_.batch, options_.context);
  int64_t epoch = epoch_, position = position_;
  for (int64_t row = 0; row < options_.batch; ++row) {
    shuffle(epoch);
    rows.fill(row, epoch * samples_ + position, tokens_,
              shift_ + order_[position] * options_.context);
    if (++position == samples_) {
      position = 0;
      ++epoch;
    }
  }
  return rows.on(options_.device);
}

void TokenLoader::skip() {
  const int64_t position = position_ + options_.batch;
  epoch_ += position / samples_;
  position_ = position % samples_;
}

TokenBatch TokenLoader::next() {
  TokenBatch batch = peek();
  skip();
  return batch;
}

}  // namespace accrue
