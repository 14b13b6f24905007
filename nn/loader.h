// Batches of token sequences in a shuffled order that a seed decides.
#pragma once
#include <future>

#include "accrue/autograd/module.h"
#include "accrue/core/kernels.h"
#include "accrue/nn/tokens.h"

namespace accrue {

/// B sequences of T tokens and, for each token, the one that follows it.
struct TokenBatch {
  Tensor tokens, targets;            // i32 [B, T]
  std::vector<int64_t> indices;      // of the samples in the global data order, [B]
  std::vector<int64_t> counts = {};  // targets of each sample that count, [B]; empty: not known

  std::span<const int64_t> samples() const { return indices; }
  void visit(Visitor& part) {
    part("tokens", tokens);
    part("targets", targets);
  }
  /// Samples [first, first + count) as views. Throws BadArgument if out of range.
  TokenBatch slice(int64_t first, int64_t count) const;
  /// Targets that count: what a cycle takes as its declared total. Padding is −100. Where `counts`
  /// are not known, the targets are read, which synchronises.
  int64_t count() const;
};

/// Non-overlapping windows of context + 1 tokens, each beginning with the last token of the one
/// before: (size − 1) / context, rounded down.
int64_t windows(const Tokens& tokens, int64_t context);

/// Windows first_window … first_window + count − 1 in the text's order, for validation. Their
/// indices are their numbers. Throws BadArgument if out of range.
TokenBatch window_batch(const Tokens& tokens, int64_t first_window, int64_t count, int64_t context,
                        Device device);

struct LoaderOptions {
  int64_t context;  // tokens of a sample
  int64_t batch;    // samples of an effective batch
  Seed seed;
  Device device;
};

/// Effective batches for training. An epoch is a permutation of non-overlapping windows, shifted by
/// fewer than `context` tokens; permutation and shift are functions of seed and epoch alone.
/// Batches are always full: one that begins at an epoch's end goes on in the next epoch. A sample's
/// global index, epoch · samples_per_epoch + position, never comes back, so neither do the random
/// numbers keyed by it. Where the device copies beside its kernels, the next batch is made in
/// another thread while this one is used; the state says nothing of it.
class TokenLoader {
 public:
  /// Throws BadArgument if the text has fewer than context + 1 tokens, or a size is not positive.
  TokenLoader(Tokens tokens, const LoaderOptions& options);

  /// One fewer than windows(), at most, to leave room for the shift.
  int64_t samples_per_epoch() const { return samples_; }
  int64_t tokens_per_epoch() const { return samples_ * options_.context; }
  int64_t epoch() const { return epoch_; }
  /// Batches from here on have this many samples; which ones and in what order stays. Not part of
  /// the state. Throws BadArgument unless there is at least one.
  void set_batch(int64_t samples);
  /// Samples of this epoch that have been handed out.
  int64_t position() const { return position_; }

  /// The next batch. The position stays before it until skip(), so that a checkpoint from within
  /// its cycle leads to the same batch again.
  TokenBatch peek();
  void skip();
  /// peek() and skip().
  TokenBatch next();

  struct End {};
  class Iterator;
  /// The batches that begin in this epoch, from the position on.
  Iterator begin();
  End end() const { return {}; }

  /// The state to save and restore: where the next batch begins.
  template <class V>
  void visit(V& part) {
    part("epoch", epoch_);
    part("position", position_);
  }

 private:
  /// The next batch: filled by a loader of its own, which shuffles for itself, and on its way.
  struct Ahead {
    std::unique_ptr<TokenLoader> loader;
    TokenBatch batch;
    std::unique_ptr<Upload> upload;
    std::future<void> filled;

    bool is_at(int64_t epoch, int64_t position, int64_t samples) const;
    TokenBatch take();
  };
  void shuffle(int64_t epoch);
  void fill(int32_t* tokens, int32_t* targets, int64_t* indices);
  void begin_ahead();

  Tokens tokens_;
  LoaderOptions options_;
  int64_t samples_ = 0;
  int64_t epoch_ = 0, position_ = 0;
  // Of epoch shuffled_; made again when a restored state names another epoch.
  int64_t shuffled_ = -1, shift_ = 0;
  std::vector<int64_t> order_;
  std::unique_ptr<Ahead> ahead_;
};

class TokenLoader::Iterator {
 public:
  explicit Iterator(TokenLoader& loader)
      : loader_(&loader), epoch_(loader.epoch()), batch_(loader.next()) {}
  const TokenBatch& operator*() const { return batch_; }
  Iterator& operator++() {
    more_ = loader_->epoch() == epoch_;
    if (more_) batch_ = loader_->next();
    return *this;
  }
  bool operator!=(End) const { return more_; }

 private:
  TokenLoader* loader_;
  int64_t epoch_;
  bool more_ = true;
  TokenBatch batch_;
};

inline TokenLoader::Iterator TokenLoader::begin() { return Iterator(*this); }

}  // namespace accrue
