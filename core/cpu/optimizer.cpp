// The consuming kernels: each reads the sums once, normalises, and updates in the same pass.
#include "accrue/core/cpu/dispatch.h"
#include "accrue/core/cpu/items.h"
#include "accrue/core/cpu/kernels.h"
#include "accrue/core/functors/update.h"

namespace accrue::cpu {
namespace {

constexpr int64_t work_per_element = 4;

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
  copy[i] = T(weight);
}

/// body(copy): a pointer of its dtype, or NoCopy.
template <class Item, class Body>
void with_copy(const Item& item, const Body& body) {
  if (!item.copy) return body(NoCopy{});
  if (item.copy.dtype == DType::f16) return body(static_cast<Float16*>(item.copy.data));
  body(static_cast<BFloat16*>(item.copy.data));
}

template <bool has_weight, class Sum, class Copy>
void adam_range(const kernel::AdamItem& item, const update::Adam<float>& rule, Sum sum, Copy copy,
                int64_t first, int64_t last) {
  float* weight = static_cast<float*>(item.weight.data);
  float* mean = static_cast<float*>(item.mean.data);
  float* variance = static_cast<float*>(item.variance.data);
  const update::Adam<float> adam = rule;  // a copy that the stores below cannot alias
#pragma omp simd
  for (int64_t i = first; i < last; ++i) {
    const float w = has_weight ? weight[i] : 0;
    float m = mean[i], v = variance[i];
    adam.moments(float(sum[i]), w, m, v);
    mean[i] = m;
    variance[i] = v;
    if constexpr (!has_weight) continue;
    const float updated = adam.apply(w, m, v);
    weight[i] = updated;
    refresh(copy, i, updated);
  }
}

template <bool has_velocity, class Sum, class Copy>
void sgd_range(const kernel::SgdItem& item, const update::Sgd<float>& rule, Sum sum, Copy copy,
               int64_t first, int64_t last) {
  float* weight = static_cast<float*>(item.weight.data);
  float* velocity = static_cast<float*>(item.velocity.data);
  const update::Sgd<float> sgd = rule;
#pragma omp simd
  for (int64_t i = first; i < last; ++i) {
    if constexpr (has_velocity)
      weight[i] = sgd(float(sum[i]), weight[i], velocity[i]);
    else
      weight[i] = sgd(float(sum[i]), weight[i]);
    refresh(copy, i, weight[i]);
  }
}

}  // namespace

void adam(const kernel::Adam& args, void*) {
  const auto items = args.items;
  const update::Adam<float> rule(args);
  parallel_items(
      items.size(), work_per_element, [&](int64_t i) { return items[i].mean.shape.elements(); },
      [&](int64_t i, int64_t first, int64_t last, int64_t) {
        with_sum(items[i], [&](auto sum) {
          if (!items[i].weight)
            return adam_range<false>(items[i], rule, sum, NoCopy{}, first, last);
          with_copy(items[i],
                    [&](auto copy) { adam_range<true>(items[i], rule, sum, copy, first, last); });
        });
      });
}

void sgd(const kernel::Sgd& args, void*) {
  const auto items = args.items;
  const update::Sgd<float> rule(args);
  parallel_items(
      items.size(), work_per_element, [&](int64_t i) { return items[i].weight.shape.elements(); },
      [&](int64_t i, int64_t first, int64_t last, int64_t) {
        const auto& item = items[i];
        with_sum(item, [&](auto sum) {
          with_copy(item, [&](auto copy) {
            if (item.velocity)
              sgd_range<true>(item, rule, sum, copy, first, last);
            else
              sgd_range<false>(item, rule, sum, copy, first, last);
          });
        });
      });
}

}  // namespace accrue::cpu
