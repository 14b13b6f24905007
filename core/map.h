// map(): a formula over tensors in one pass; one of one's own on the host.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

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

/// On the host, unchecked.
template <size_t O, size_t I, class F>
void map_on_host(const F& f, const Out* outs, const In* ins) {
  constexpr auto o = std::make_index_sequence<O>();
  constexpr auto i = std::make_index_sequence<I>();
  const int64_t n = outs[0].shape.elements();
  if (outs[0].dtype == DType::f64)
    map_as<double>(f, outs, ins, n, o, i);
  else
    map_as<float>(f, outs, ins, n, o, i);
}

inline bool runs_on_host(Device device) {
  if (current_mode() != Mode::run) return false;
  require(device.on_host(), "[map] expected tensors on the host, where formulas of one's own run, ",
          "got ", device, "; try kernels or operations, or a formula of core/functors/folds.h");
  return true;
}

template <class Args, class Table>
constexpr bool lists = false;
template <class Args, class... All>
constexpr bool lists<Args, std::tuple<Kernel<All>...>> = (std::is_same_v<Args, All> || ...);
/// Whether every backend has a kernel for this formula.
template <class F>
constexpr bool has_kernel = lists<kernel::Map<F>, Kernels>;

inline void check_mapped(const In& in, int64_t n) {
  require(is_floating(in.dtype) && in.shape.elements() == n, "[map] expected floating tensors of ",
          n, " elements, got ", in.dtype, ' ', in.shape);
  require(in.strides == contiguous_strides(in.shape),
          "[map] expected contiguous tensors, got strides ", in.strides, " for shape ", in.shape);
}

template <class F, size_t O, size_t I>
void map(const F& f, Device device, const std::array<Out, O>& outs, const std::array<In, I>& ins) {
  const int64_t n = outs[0].shape.elements();
  for (const Out& out : outs) check_mapped(out, n);
  for (const In& in : ins) check_mapped(in, n);
  if constexpr (has_kernel<F>)
    launch(device, kernel::Map<F>{f, outs, ins});
  else if (runs_on_host(device))
    map_on_host<O, I>(f, outs.data(), ins.data());
}

}  // namespace detail

/// f(out&…, in…) for every element: outs are read and written, ins are read; computed in f64 where
/// the first out is f64, else in f32. All contiguous, floating, of one number of elements; a
/// formula that is not in core/functors/folds.h needs them on the host. Throws BadArgument
/// otherwise. Does nothing in a dry run.
template <class F, size_t O, size_t I>
void map(const F& f, Device device, const Out (&outs)[O], const In (&ins)[I]) {
  detail::map(f, device, std::to_array(outs), std::to_array(ins));
}
template <class F, size_t O>
void map(const F& f, Device device, const Out (&outs)[O]) {
  detail::map(f, device, std::to_array(outs), std::array<In, 0>{});
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

}  // namespace accrue
