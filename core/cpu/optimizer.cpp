// The consuming kernels: each reads the sums once, normalises, and updates in the same pass.
#include <cmath>
#include <limits>

#include "accrue/core/cpu/dispatch.h"
#include "accrue/core/cpu/items.h"
#include "accrue/core/cpu/kernels.h"

namespace accrue::cpu {
namespace {

constexpr int64_t work_per_element = 4;

/// A decaying moment would end as a subnormal number, which costs a processor's assist at every
/// step ever after.
inline float flushed(float moment) {
  return std::abs(moment) < std::numeric_limits<float>::min() ? 0 : moment;
}

/// A sum that nothing was deposited into.
struct Zero {
  float operator[](int64_t) const { return 0; }
};

/// body(sum): a pointer of its dtype, or Zero.
template <class Item, class Body>
void with_sum(const Item& item, const Body& body) {
  if (!item.sum) return body(Zero{});
  with_float(item.sum.dtype,
             [&](auto type) { body(static_cast<const decltype(type)*>(item.sum.data)); });
}

/// A weight without a working copy.
struct NoCopy {};
inline void refresh(NoCopy, int64_t, float) {}
template <class T>
inline void refresh(T* copy, int64_t i, float weight) {
  copy[i] = from_float<T>(weight);
}

/// body(copy): a pointer of its dtype, or NoCopy.
template <class Item, class Body>
void with_copy(const Item& item, const Body& body) {
  if (!item.copy) return body(NoCopy{});
  if (item.copy.dtype == DType::f16) return body(static_cast<Float16*>(item.copy.data));
  body(static_cast<BFloat16*>(item.copy.data));
}

/// The numbers of kernel::Adam in f32, as the loop uses them.
struct AdamFactors {
  float scale, decay1, gain1, decay2, gain2, step, correction2, epsilon, coupled, decoupled;
  explicit AdamFactors(const kernel::Adam& a)
      : scale(a.scale),
        decay1(a.decay1),
        gain1(a.gain1),
        decay2(a.decay2),
        gain2(a.gain2),
        step(a.lr / a.correction1),
        correction2(1 / a.correction2),
        epsilon(a.epsilon),
        coupled(a.decoupled ? 0 : a.weight_decay),
        decoupled(a.decoupled ? a.lr * a.weight_decay : 0) {}
};

template <bool has_weight, class Sum, class Copy>
void adam_range(const kernel::AdamItem& item, const AdamFactors& f, Sum sum, Copy copy,
                int64_t first, int64_t last) {
  float* weight = static_cast<float*>(item.weight.data);
  float* mean = static_cast<float*>(item.mean.data);
  float* variance = static_cast<float*>(item.variance.data);
  const AdamFactors a = f;  // a copy that the stores below cannot alias
#pragma omp simd
  for (int64_t i = first; i < last; ++i) {
    const float w = has_weight ? weight[i] : 0;
    const float g = to_float(sum[i]) * a.scale + a.coupled * w;
    const float m = flushed(a.decay1 * mean[i] + a.gain1 * g);
    const float v = flushed(a.decay2 * variance[i] + a.gain2 * (g * g));
    mean[i] = m;
    variance[i] = v;
    if constexpr (!has_weight) continue;
    const float updated =
        w - a.decoupled * w - a.step * m / (std::sqrt(v * a.correction2) + a.epsilon);
    weight[i] = updated;
    refresh(copy, i, updated);
  }
}

struct SgdFactors {
  float scale, lr, momentum, decay;
  explicit SgdFactors(const kernel::Sgd& s)
      : scale(s.scale), lr(s.lr), momentum(s.momentum), decay(s.weight_decay) {}
};

template <bool has_velocity, class Sum, class Copy>
void sgd_range(const kernel::SgdItem& item, const SgdFactors& f, bool nesterov, Sum sum, Copy copy,
               int64_t first, int64_t last) {
  float* weight = static_cast<float*>(item.weight.data);
  float* velocity = static_cast<float*>(item.velocity.data);
  const SgdFactors s = f;
  // The step is lr·(u·share + g·rest): Nesterov's looks one momentum ahead.
  const float share = nesterov ? s.momentum : 1, rest = nesterov ? 1 : 0;
#pragma omp simd
  for (int64_t i = first; i < last; ++i) {
    const float w = weight[i], g = to_float(sum[i]) * s.scale + s.decay * w;
    float step = g;
    if constexpr (has_velocity) {
      const float u = flushed(s.momentum * velocity[i] + g);
      velocity[i] = u;
      step = share * u + rest * g;
    }
    const float updated = w - s.lr * step;
    weight[i] = updated;
    refresh(copy, i, updated);
  }
}

}  // namespace

void adam(const kernel::Adam& args, void*) {
  const auto items = args.items;
  const AdamFactors factors(args);
  parallel_items(
      items.size(), work_per_element, [&](int64_t i) { return items[i].mean.shape.elements(); },
      [&](int64_t i, int64_t first, int64_t last, int64_t) {
        with_sum(items[i], [&](auto sum) {
          if (!items[i].weight)
            return adam_range<false>(items[i], factors, sum, NoCopy{}, first, last);
          with_copy(items[i], [&](auto copy) {
            adam_range<true>(items[i], factors, sum, copy, first, last);
          });
        });
      });
}

void sgd(const kernel::Sgd& args, void*) {
  const auto items = args.items;
  const SgdFactors factors(args);
  parallel_items(
      items.size(), work_per_element, [&](int64_t i) { return items[i].weight.shape.elements(); },
      [&](int64_t i, int64_t first, int64_t last, int64_t) {
        const auto& item = items[i];
        with_sum(item, [&](auto sum) {
          with_copy(item, [&](auto copy) {
            if (item.velocity)
              sgd_range<true>(item, factors, args.nesterov, sum, copy, first, last);
            else
              sgd_range<false>(item, factors, args.nesterov, sum, copy, first, last);
          });
        });
      });
}

}  // namespace accrue::cpu
