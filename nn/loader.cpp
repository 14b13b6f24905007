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
  const bool uploads = options_.device.backend->upload && current_mode() == Mode::run;
  TokenBatch batch;
  if (uploads && ahead_ && ahead_->is_at(epoch_, position_, options_.batch)) {
    batch = ahead_->take();
  } else {
    Rows rows(options_.batch, options_.context);
    fill(rows.inputs.data(), rows.targets.data(), rows.indices.data());
    batch = rows.on(options_.device);
  }
  if (!uploads) return batch;
  const IdRange range{0, static_cast<int32_t>(tokens_.vocabulary() - 1), 0};
  for (Tensor* ids : {&batch.tokens, &batch.targets}) ids->set_uploaded(range);
  begin_ahead();
  return batch;
}

void TokenLoader::fill(int32_t* tokens, int32_t* targets, int64_t* indices) {
  const int64_t context = options_.context;
  int64_t epoch = epoch_, position = position_;
  for (int64_t row = 0; row < options_.batch; ++row) {
    shuffle(epoch);
    const int64_t first = shift_ + order_[position] * context;
    tokens_.copy(first, context, tokens + row * context);
    tokens_.copy(first + 1, context, targets + row * context);
    indices[row] = epoch * samples_ + position;
    if (++position == samples_) {
      position = 0;
      ++epoch;
    }
  }
}

bool TokenLoader::Ahead::is_at(int64_t epoch, int64_t position, int64_t samples) const {
  return filled.valid() && loader->epoch_ == epoch && loader->position_ == position &&
         loader->options_.batch == samples;
}

TokenBatch TokenLoader::Ahead::take() {
  filled.get();
  upload->finish();
  return std::move(batch);
}

void TokenLoader::begin_ahead() {
  const int64_t batch = options_.batch, end = position_ + batch;
  const int64_t epoch = epoch_ + end / samples_, position = end % samples_;
  if (!ahead_)
    ahead_.reset(new Ahead{std::make_unique<TokenLoader>(tokens_, options_), {}, {}, {}});
  Ahead& next = *ahead_;
  if (next.is_at(epoch, position, batch)) return;
  if (next.filled.valid()) next.filled.wait();  // a batch that nobody asked for
  next.loader->set_batch(batch);
  next.loader->epoch_ = epoch;
  next.loader->position_ = position;
  next.upload.reset();  // waits for its copy
  const Shape shape{batch, options_.context};
  Tensor both({2, batch, options_.context}, DType::i32, options_.device);
  next.batch = {both.slice(0, 1).reshape(shape), both.slice(1, 1).reshape(shape),
                std::vector<int64_t>(batch), std::vector<int64_t>(batch, options_.context)};
  next.upload = options_.device.backend->upload(both.out().data, both.bytes());
  next.filled = std::async(std::launch::async, [&next] {
    auto* tokens = static_cast<int32_t*>(next.upload->host());
    next.loader->fill(tokens, tokens + next.batch.tokens.elements(), next.batch.indices.data());
    next.upload->start();
  });
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
