#include "accrue/autograd/loss.h"

#include "accrue/autograd/operations.h"

namespace accrue {
namespace {

void check(const Var& sum) {
  require(sum.shape() == Shape({1}), "[loss] expected a sum of shape [1], got ", sum.shape(),
          "; a loss is the sum over the micro-batch, with its count beside it");
}

}  // namespace

Loss::Loss(Var sum, int64_t count) : sum_(std::move(sum)), known_(count) {
  check(sum_);
  require(count >= 0, "[loss] expected a count of at least 0, got ", count);
  count_ = Tensor::scalar(static_cast<double>(count), DType::i64, sum_.device());
}

Loss::Loss(Var sum, Tensor count) : sum_(std::move(sum)), count_(std::move(count)) {
  check(sum_);
  require(count_.elements() == 1 && count_.dtype() == DType::i64,
          "[loss] expected a count i64 [1], got ", count_.dtype(), ' ', count_.shape());
}

Loss Loss::share(Var sum, int64_t total) {
  check(sum);
  require(total > 0, "[loss] expected a total over the cycle of at least 1, got ", total);
  return Loss(scale(sum, 1.0 / static_cast<double>(total)));
}

Loss operator+(const Loss& a, const Loss& b) {
  Var sum = a.sum_ + b.sum_;
  if (a.is_share() && b.is_share()) return Loss(std::move(sum));
  const bool same_known = a.known_ >= 0 && a.known_ == b.known_;
  const bool same_tensor = a.count_ && b.count_ && a.count_.same_storage(b.count_);
  require(same_known || same_tensor,
          "[loss] expected losses of one and the same count; for different "
          "counts declare their totals: Loss::share(sum, total)");
  Loss result(std::move(sum));
  result.count_ = a.count_;
  result.known_ = a.known_;
  return result;
}

}  // namespace accrue
