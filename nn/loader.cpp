// Windows of tokens into batches.
#include "accrue/nn/loader.h"

#include <algorithm>
#include <numeric>

#include "accrue/core/error.h"
#include "accrue/core/philox.h"

namespace accrue {
namespace {

TokenBatch empty_batch(int64_t count, int64_t context, Device device) {
  return {Tensor({count, context}, DType::i32, device),
          Tensor({count, context}, DType::i32, device),
          std::vector<int64_t>(static_cast<size_t>(count))};
}

// Dry runs have no memory to fill: they need only the shapes.
void fill_row(TokenBatch& batch, int64_t row, const Tokens& tokens, int64_t first) {
  const int64_t context = batch.tokens.shape()[1];
  int32_t *inputs = batch.tokens.data<int32_t>(), *targets = batch.targets.data<int32_t>();
  if (inputs) tokens.copy(first, context, inputs + row * context);
  if (targets) tokens.copy(first + 1, context, targets + row * context);
}

uint64_t random_below(uint64_t bound, const RandomKey& key, int64_t index) {
  const auto bits = key.draw(index, 0);
  return (uint64_t{bits[0]} << 32 | bits[1]) % bound;  // biased by less than bound · 2⁻⁶⁴
}

}  // namespace

TokenBatch TokenBatch::slice(int64_t first, int64_t count) const {
  Tensor part = tokens.slice(first, count);  // checks the range
  const auto begin = indices.begin() + first;
  return {std::move(part), targets.slice(first, count), {begin, begin + count}};
}

int64_t TokenBatch::count() const {
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
  TokenBatch batch = empty_batch(count, context, device);
  std::iota(batch.indices.begin(), batch.indices.end(), first_window);
  for (int64_t row = 0; row < count; ++row)
    fill_row(batch, row, tokens, (first_window + row) * context);
  return batch;
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
  TokenBatch batch = empty_batch(options_.batch, options_.context, options_.device);
  int64_t epoch = epoch_, position = position_;
  for (int64_t row = 0; row < options_.batch; ++row) {
    shuffle(epoch);
    fill_row(batch, row, tokens_, shift_ + order_[position] * options_.context);
    batch.indices[row] = epoch * samples_ + position;
    if (++position == samples_) {
      position = 0;
      ++epoch;
    }
  }
  return batch;
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
