// What the optimizers do with one weight: the formulas of kernel::Sgd and kernel::Adam, with the
// call's numbers as the loop uses them.
#pragma once
#include <cmath>
#include <limits>

#include "accrue/core/functors/host_device.h"
#include "accrue/core/kernels.h"

namespace accrue::update {

/// A decaying moment would end as a subnormal number, which costs a processor's assist at every
/// step ever after.
template <class T>
ACCRUE_HD inline T flushed(T moment) {
  constexpr T least = std::numeric_limits<T>::min();
  return moment < least && moment > -least ? T{0} : moment;
}

template <class T>
struct Sgd {
  T scale, lr, momentum, decay, share, rest;
  // The step is lr·(u·share + g·rest): Nesterov's looks one momentum ahead.
  explicit Sgd(const kernel::Sgd& a)
      : scale(static_cast<T>(a.scale)),
        lr(static_cast<T>(a.lr)),
        momentum(static_cast<T>(a.momentum)),
        decay(static_cast<T>(a.weight_decay)),
        share(a.nesterov ? momentum : T{1}),
        rest(a.nesterov ? T{1} : T{0}) {}

  /// The new weight; without a velocity.
  ACCRUE_HD T operator()(T sum, T weight) const {
    return weight - lr * (sum * scale + decay * weight);
  }
  ACCRUE_HD T operator()(T sum, T weight, T& velocity) const {
    const T g = sum * scale + decay * weight, u = flushed(momentum * velocity + g);
    velocity = u;
    return weight - lr * (share * u + rest * g);
  }
};

template <class T>
struct Adam {
  T scale, decay1, gain1, decay2, gain2, step, correction2, epsilon, coupled, decoupled;
  explicit Adam(const kernel::Adam& a)
      : scale(static_cast<T>(a.scale)),
        decay1(static_cast<T>(a.decay1)),
        gain1(static_cast<T>(a.gain1)),
        decay2(static_cast<T>(a.decay2)),
        gain2(static_cast<T>(a.gain2)),
        step(static_cast<T>(a.lr / a.correction1)),
        correction2(static_cast<T>(1 / a.correction2)),
        epsilon(static_cast<T>(a.epsilon)),
        coupled(static_cast<T>(a.decoupled ? 0 : a.weight_decay)),
        decoupled(static_cast<T>(a.decoupled ? a.lr * a.weight_decay : 0)) {}

  /// Updates the moments; `weight` 0 where there is none.
  ACCRUE_HD void moments(T sum, T weight, T& mean, T& variance) const {
    const T g = sum * scale + coupled * weight;
    mean = flushed(decay1 * mean + gain1 * g);
    variance = flushed(decay2 * variance + gain2 * (g * g));
  }
  /// The new weight, after its moments.
  ACCRUE_HD T apply(T weight, T mean, T variance) const {
    return weight - decoupled * weight -
           step * mean / (std::sqrt(variance * correction2) + epsilon);
  }
};

}  // namespace accrue::update
