// An exponential moving average of the weights, by optimizer step.
#pragma once
#include <vector>

#include "accrue/optim/optimizer.h"

namespace accrue {

struct EmaConfig {
  double decay = 0.999;
  bool warm_up = true;  // the t-th step decays by min(decay, (1 + t)/(10 + t)), t from 0
};

/// average += (1 − decay)·(w − average) after every step: decay·average + (1 − decay)·w, written so
/// that equal weights stay equal to the bit. Begins as a copy of the weights; needs as many bytes
/// as they do (Tag::optimizer). Source: Polyak & Juditsky, SIAM J. Control Optim. 30 (1992); the
/// warm-up is TensorFlow's ExponentialMovingAverage.
class Ema {
 public:
  /// Throws BadOrder before initialize(), BadArgument unless 0 ≤ decay < 1.
  explicit Ema(Parameters parameters, EmaConfig config = {});
  Ema(const Ema&) = delete;

  /// One pass over weights and averages. A skipped step changes nothing. Throws
  /// BadOrder while an EmaScope is open.
  void update(const StepReport& report);
  /// The decay of the step that has just been done.
  double decay_after(Step done) const;
  const Parameters& parameters() const { return parameters_; }
  const Tensor& average(size_t i) const { return averages_[i]; }
  /// The averages, for a checkpoint. Throws BadOrder while an EmaScope is open.
  void visit(Visitor& part);

 private:
  friend class EmaScope;
  void swap();

  Parameters parameters_;
  EmaConfig config_;
  std::vector<Tensor> averages_;
  bool swapped_ = false;
};

/// Inside, the model has the averaged weights; afterwards its own, byte for byte. Numbers are
/// exchanged in place: addresses stay, working copies are made anew. For evaluation between
/// cycles; what steps or saves the model in between would take the averages for its weights.
class [[nodiscard]] EmaScope {
 public:
  /// Throws BadOrder if one is open already.
  explicit EmaScope(Ema& ema);
  ~EmaScope() { ema_.swap(); }
  EmaScope(const EmaScope&) = delete;

 private:
  Ema& ema_;
};

}  // namespace accrue
