// What happened to each micro-batch: figures on the device go into one tensor and are read late.
#pragma once
#include <vector>

#include "accrue/autograd/cycle_options.h"

namespace accrue {

class Records {
 public:
  explicit Records(Device device) : device_(device) {}
  void clear() { rows_.clear(); }
  /// A micro-batch begins.
  void begin(int64_t samples);
  /// Its loss is known; backward is about to begin, or is done and `bytes` were handed out before.
  /// `count` absent: a share.
  void loss(const Tensor& sum, const Tensor& count, std::optional<int64_t> bytes = {});
  void judged(double factor, const MicroGrads& gradients);
  void dropped();
  void end();
  /// It was left before its backward.
  void forget() { rows_.pop_back(); }
  /// Synchronises.
  std::vector<MicroRecord> read() const;

 private:
  Device device_;
  std::vector<MicroRecord> rows_;
  Tensor figures_;  // f64 [capacity, 2]: loss and count of each
  double began_ = 0;
};

}  // namespace accrue
