// map(): a formula of one's own, over tensors on the host, in one pass.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>

#include "accrue/core/kernels.h"

namespace accrue {
namespace detail {

template <class T>
T load(const In& in, int64_t i) {
  switch (in.dtype) {
    case DType::f64:
      return static_cast<T>(static_cast<const double*>(in.data)[i]);
    case DType::bf16:
      return static_cast<T>(static_cast<const BFloat16*>(in.data)[i]);
    case DType::f16:
      return static_cast<T>(static_cast<const Float16*>(in.data)[i]);
    default:
      return static_cast<T>(static_cast<const float*>(in.data)[i]);
  }
}

template <class T>
void store(const Out& out, int64_t i, T value) {
  switch (out.dtype) {
    case DType::f64:
      static_cast<double*>(out.data)[i] = value;
      break;
    case DType::bf16:
      static_cast<BFloat16*>(out.data)[i] = BFloat16(static_cast<float>(value));
      break;
    case DType::f16:
      static_cast<Float16*>(out.data)[i] = Float16(static_cast<float>(value));
      break;
    default:
      static_cast<float*>(out.data)[i] = static_cast<float>(value);
  }
}

template <class T, class F, size_t... O, size_t... I>
void map_as(const F& f, const Out* outs, const In* ins, int64_t n, std::index_sequence<O...>,
            std::index_sequence<I...>) {
  const bool plain = ((outs[O].dtype == dtype_of<T>)&&...) && ((ins[I].dtype == dtype_of<T>)&&...);
  if (plain) {  // one dtype: no choice within the loop, which then vectorises
    const std::array<T*, sizeof...(O)> to{static_cast<T*>(outs[O].data)...};
    const std::array<const T*, sizeof...(I)> from{static_cast<const T*>(ins[I].data)...};
#pragma omp parallel for simd if (parallel : n > 16384)
    for (int64_t i = 0; i < n; ++i) f(to[O][i]..., from[I][i]...);
    return;
  }
#pragma omp parallel for if (n > 16384)
  for (int64_t i = 0; i < n; ++i) {
    std::array<T, sizeof...(O)> values{load<T>(outs[O], i)...};
    f(values[O]..., load<T>(ins[I], i)...);
    (store(outs[O], i, values[O]), ...);
  }
}

inline bool runs_on_host(Device device) {
  if (current_mode() != Mode::run) return false;
  require(device.backend->memory == &host_allocator(), "[map] expected tensors on the host, got ",
          device);
  return true;
}

}  // namespace detail

/// f(out&…, in…) for every element: outs are read and written, ins are read; computed in f64 where
/// the first out is f64, else in f32. All contiguous, floating, of one number of elements, on the
/// host. Throws BadArgument otherwise. Does nothing in a dry run.
template <class F, size_t O, size_t I>
void map(const F& f, Device device, const Out (&outs)[O], const In (&ins)[I]) {
  if (!detail::runs_on_host(device)) return;
  const int64_t n = outs[0].shape.elements();
  auto check = [n](const In& in) {
    require(is_floating(in.dtype) && in.shape.elements() == n,
            "[map] expected floating tensors of ", n, " elements, got ", in.dtype, ' ', in.shape);
    require(in.strides == contiguous_strides(in.shape),
            "[map] expected contiguous tensors, got strides ", in.strides, " for shape ", in.shape);
  };
  for (const Out& out : outs) check(out);
  for (const In& in : ins) check(in);
  constexpr auto o = std::make_index_sequence<O>();
  constexpr auto i = std::make_index_sequence<I>();
  if (outs[0].dtype == DType::f64)
    detail::map_as<double>(f, outs, ins, n, o, i);
  else
    detail::map_as<float>(f, outs, ins, n, o, i);
}

/// Element i of a contiguous tensor on the host, converted: for the bodies of for_blocks().
using detail::load;
using detail::store;

/// body(first, last) for consecutive blocks of `block` elements, for formulae that map() cannot
/// say: integers, random numbers. On the host; does nothing in a dry run.
template <class Body>
void for_blocks(Device device, int64_t n, int64_t block, const Body& body) {
  if (!detail::runs_on_host(device)) return;
#pragma omp parallel for if (n > 16384)
  for (int64_t b = 0; b < (n + block - 1) / block; ++b)
    body(b * block, std::min(n, (b + 1) * block));
}

/// body(i, most, all) for every element: raises `most`, or makes `all` false.
template <class Body>
void reduce_elements(Device device, int64_t n, double& most, bool& all, const Body& body) {
  if (!detail::runs_on_host(device)) return;
  double largest = most;
  bool every = all;
#pragma omp parallel for reduction(max : largest) reduction(&& : every) if (n > 16384)
  for (int64_t i = 0; i < n; ++i) body(i, largest, every);
  most = largest;
  all = every;
}

}  // namespace accrue
