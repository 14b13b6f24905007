// Sgd and Adam: all weights in one launch, one pass over memory. The formulas are those of
// core/functors/update.h.
#include "accrue/core/functors/update.h"

#include "accrue/cuda/dispatch.h"
#include "accrue/cuda/kernels.h"
#include "accrue/cuda/reduce.cuh"

namespace accrue::cuda {
namespace {

constexpr int capacity = 256;
constexpr int64_t chunk = 4096;  // elements of one block

/// One weight. Absent parts are null.
struct Weight {
  const void* sum;
  void *weight, *first, *second, *copy;  // first: velocity or mean; second: variance
  int64_t elements;
  DType sum_type, copy_type;
  bool vectors;  // all parts are aligned
};
using Weights = ItemTable<Weight, capacity>;

/// V elements of all parts, in Wide.
template <class Wide, int V>
struct Held {
  Wide sum[V] = {}, weight[V] = {}, first[V] = {}, second[V] = {};

  template <class Sum>
  __device__ void load(const Weight& item, int64_t i, const Sum* sums) {
    if constexpr (!std::is_void_v<Sum>) cuda::load<V>(sums + i, sum);
    if (item.weight) cuda::load<V>(static_cast<const Wide*>(item.weight) + i, weight);
    if (item.first) cuda::load<V>(static_cast<const Wide*>(item.first) + i, first);
    if (item.second) cuda::load<V>(static_cast<const Wide*>(item.second) + i, second);
  }
  __device__ void apply(const Weight& item, const update::Sgd<Wide>& formula) {
#pragma unroll
    for (int v = 0; v < V; ++v)
      weight[v] = item.first ? formula(sum[v], weight[v], first[v]) : formula(sum[v], weight[v]);
  }
  __device__ void apply(const Weight& item, const update::Adam<Wide>& formula) {
#pragma unroll
    for (int v = 0; v < V; ++v) {
      formula.moments(sum[v], weight[v], first[v], second[v]);
      if (item.weight) weight[v] = formula.apply(weight[v], first[v], second[v]);
    }
  }
  __device__ void store(const Weight& item, int64_t i) const {
    if (item.first) cuda::store<V>(static_cast<Wide*>(item.first) + i, first);
    if (item.second) cuda::store<V>(static_cast<Wide*>(item.second) + i, second);
    if (!item.weight) return;
    cuda::store<V>(static_cast<Wide*>(item.weight) + i, weight);
    if (!item.copy) return;
    if (item.copy_type == DType::f16)
      cuda::store<V>(static_cast<Float16*>(item.copy) + i, weight);
    else
      cuda::store<V>(static_cast<BFloat16*>(item.copy) + i, weight);
  }
};

/// A chunk, V elements at a time and U of those under way; then its ragged end.
template <int V, class Wide, class Sum, class Formula>
__device__ void update_chunk(const Weight& item, int64_t begin, int64_t end, const Sum* sums,
                             const Formula& formula) {
  constexpr int U = V > 1 ? 2 : 1;
  const int64_t whole = begin + (end - begin) / V * V;
  for (int64_t i = begin + threadIdx.x * V; i < whole; i += U * threads * V) {
    Held<Wide, V> held[U];
#pragma unroll
    for (int u = 0; u < U; ++u)
      if (i + u * threads * V < whole) held[u].load(item, i + u * threads * V, sums);
#pragma unroll
    for (int u = 0; u < U; ++u) {
      if (i + u * threads * V >= whole) continue;
      held[u].apply(item, formula);
      held[u].store(item, i + u * threads * V);
    }
  }
  if constexpr (V > 1) {
    const int64_t i = whole + threadIdx.x;
    if (i >= end) return;
    Held<Wide, 1> one;
    one.load(item, i, sums);
    one.apply(item, formula);
    one.store(item, i);
  }
}

template <class Wide, class Sum, class Formula>
__device__ void update_as(const Weight& item, int64_t begin, int64_t end, const Formula& formula) {
  const Sum* sums = static_cast<const Sum*>(item.sum);
  if (item.vectors)
    update_chunk<full_width<Wide>, Wide>(item, begin, end, sums, formula);
  else
    update_chunk<1, Wide>(item, begin, end, sums, formula);
}

template <class Wide, class Formula>
__global__ void __launch_bounds__(threads) update_kernel(const __grid_constant__ Weights weights,
                                                         const __grid_constant__ Formula formula) {
  const int index = weights.find(blockIdx.x);
  const Weight& item = weights.items[index];
  const int64_t begin = static_cast<int64_t>(blockIdx.x - weights.first_chunk[index]) * chunk;
  const int64_t end = begin + chunk < item.elements ? begin + chunk : item.elements;
  if (!item.sum)
    update_as<Wide, void>(item, begin, end, formula);
  else if (item.sum_type == DType::f32)
    update_as<Wide, float>(item, begin, end, formula);
  else if (item.sum_type == DType::bf16)
    update_as<Wide, BFloat16>(item, begin, end, formula);
  else if (item.sum_type == DType::f16)
    update_as<Wide, Float16>(item, begin, end, formula);
  else
    update_as<Wide, double>(item, begin, end, formula);
}

Weight weight_of(const In& sum, const Out& weight, const Out& first, const Out& second,
                 const Out& copy, const Out& like) {
  const auto at = [](const auto& part) { return part ? part.data : nullptr; };
  Weight item{at(sum),   at(weight), at(first), at(second), at(copy), like.shape.elements(),
              sum.dtype, copy.dtype, true};
  const int width = like.dtype == DType::f64 ? 2 : 4;
  for (const In& part : {sum, In(weight), In(first), In(second), In(copy)})
    item.vectors = item.vectors && (!part || is_aligned(part.data, size_of(part.dtype), width));
  return item;
}

/// All items have weights, or moments, of one dtype.
template <template <class> class Formula, class Args, class Make>
void update_all(const Args& args, DType dtype, const Make& make) {
  with_bool(dtype == DType::f64, [&]<class Double>(Double) {
    using Wide = std::conditional_t<Double::value, double, float>;
    const Formula<Wide> formula(args);
    for_tables<Weight, capacity>(static_cast<int64_t>(args.items.size()), chunk, make,
                                 [&](const Weights& weights, uint32_t chunks) {
                                   update_kernel<Wide, Formula<Wide>>
                                       <<<chunks, threads, 0, stream()>>>(weights, formula);
                                   CUDA_CHECK_LAUNCH(update_kernel);
                                 });
  });
}

}  // namespace

void sgd(const kernel::Sgd& args, void*) {
  if (args.items.empty()) return;
  update_all<update::Sgd>(args, args.items[0].weight.dtype, [&](int64_t i) {
    const kernel::SgdItem& item = args.items[i];
    return weight_of(item.sum, item.weight, item.velocity, {}, item.copy, item.weight);
  });
}

void adam(const kernel::Adam& args, void*) {
  if (args.items.empty()) return;
  update_all<update::Adam>(args, args.items[0].mean.dtype, [&](int64_t i) {
    const kernel::AdamItem& item = args.items[i];
    return weight_of(item.sum, item.weight, item.mean, item.variance, item.copy, item.mean);
  });
}

}  // namespace accrue::cuda
