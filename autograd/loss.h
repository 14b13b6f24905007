// Loss: a sum over samples together with what it is to be divided by.
#pragma once
#include "accrue/autograd/var.h"

namespace accrue {

/// Σ of a micro-batch's losses and their count (valid tokens, or samples). A bare sum does not
/// compile: only with its count can micro-batches of different sizes add up to the mean of their
/// cycle.
class Loss {
 public:
  /// sum [1], count known on the host.
  Loss(Var sum, int64_t count);
  /// sum [1], count i64 [1] on the device: costs no synchronisation.
  Loss(Var sum, Tensor count);
  /// A part of a mean whose total over the whole cycle is known beforehand: sum/total. Parts with
  /// different totals (tokens, samples) add up, and the cycle divides them by nothing more.
  /// Throws BadArgument on a total below 1.
  static Loss share(Var sum, int64_t total);

  const Var& sum() const { return sum_; }
  const Tensor& count() const { return count_; }  // i64 [1]; empty for a share
  bool is_share() const { return !count_; }
  bool count_is_known() const { return known_ >= 0; }  // on the host

  /// Losses over one and the same count, or shares. Throws BadArgument on different counts.
  friend Loss operator+(const Loss& a, const Loss& b);

 private:
  explicit Loss(Var sum) : sum_(std::move(sum)) {}
  Var sum_;
  Tensor count_;
  int64_t known_ = -1;  // the count, where the host knows it
};

}  // namespace accrue
