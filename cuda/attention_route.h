// From the kernel interface to the attention kernels' arguments, and which kernels take them.
#pragma once
#include <cmath>
#include <utility>

#include "accrue/core/kernels.h"
#include "accrue/cuda/attention_args.h"
#include "accrue/cuda/attention_layout.h"

namespace accrue::cuda {

template <class T, class InOrOut>
Heads<T> heads_of(const InOrOut& x) {
  return {static_cast<T*>(x.data), x.strides[0], x.strides[1], x.strides[2]};
}
/// Of [B, H, T] numbers.
template <class T, class InOrOut>
Heads<T> rows_of(const InOrOut& x) {
  return {static_cast<T*>(x.data), x.strides[0], x.strides[2], x.strides[1]};
}

template <class Args>
AttentionSizes sizes_of(const Args& args) {
  const Shape& shape = args.q.shape;
  return {static_cast<int>(shape[0]), static_cast<int>(shape[1]), static_cast<int>(shape[2]),
          static_cast<int>(shape[3]), 1 / std::sqrt(static_cast<double>(shape[3]))};
}

/// Blocks of threads where each takes `size` positions of a head.
inline int64_t blocks_of(const AttentionSizes& sizes, int size) {
  return int64_t{sizes.samples} * sizes.heads * divide_up(sizes.length, size);
}

/// uniform01(bits) ≥ p exactly where bits >> 8 reaches the threshold.
template <class Args>
DropoutArgs dropout_of(const Args& args) {
  if (args.p <= 0) return {};
  return {static_cast<const int64_t*>(args.samples.data), args.samples.strides[0], args.key,
          static_cast<uint32_t>(std::ceil(args.p * 0x1p24)), 1 / (1 - args.p)};
}

template <class T, class Wide>
ForwardArgs<T, Wide> args_of(const kernel::Attention& a) {
  return {sizes_of(a),      heads_of<const T>(a.q),  heads_of<const T>(a.k), heads_of<const T>(a.v),
          heads_of<T>(a.y), rows_of<Wide>(a.logsum), dropout_of(a)};
}
template <class T, class Wide>
BackwardArgs<T, Wide> args_of(const kernel::AttentionBackward& a, void* workspace) {
  return {sizes_of(a),
          heads_of<const T>(a.q),
          heads_of<const T>(a.k),
          heads_of<const T>(a.v),
          heads_of<const T>(a.y),
          heads_of<const T>(a.dy),
          heads_of<T>(a.dq),
          heads_of<T>(a.dk),
          heads_of<T>(a.dv),
          rows_of<const Wide>(a.logsum),
          static_cast<Wide*>(workspace),
          a.write == Write::add,
          dropout_of(a)};
}
/// Bytes of BackwardArgs::dots.
inline size_t dots_bytes(const kernel::AttentionBackward& a) {
  return static_cast<size_t>(a.logsum.shape.elements()) * size_of(a.logsum.dtype);
}

/// Whether 16 bytes at a time can be copied from each row.
inline bool has_aligned_rows(const In& x) {
  if (reinterpret_cast<uintptr_t>(x.data) % 16 != 0) return false;
  for (int i = 0; i < 3; ++i)
    if (x.shape[i] > 1 && x.strides[i] * size_of(x.dtype) % 16 != 0) return false;
  return true;
}

/// The kernels on tensor cores take short formats, head sizes of 8, 16, … 128, aligned rows.
template <class... Inputs>
bool fits_tensor_cores(const In& q, const Inputs&... others) {
  const bool is_short = q.dtype == DType::bf16 || q.dtype == DType::f16;
  const int64_t width = q.shape[3];
  return is_short && width % 8 == 0 && width <= 128 && has_aligned_rows(q) &&
         (has_aligned_rows(others) && ...);
}
inline bool fits_tensor_cores(const kernel::Attention& a) {
  return fits_tensor_cores(a.q, a.k, a.v);
}
inline bool fits_tensor_cores(const kernel::AttentionBackward& a) {
  return fits_tensor_cores(a.q, a.k, a.v, a.dy);
}

/// body(width, dropout) as constants: the width is that of the kernels' tiles.
template <class Body>
void with_cut(int width, bool dropout, const Body& body) {
  const auto with_dropout = [&](auto tile_width) {
    dropout ? body(tile_width, std::true_type{}) : body(tile_width, std::false_type{});
  };
  width <= 64 ? with_dropout(std::integral_constant<int, 64>{})
              : with_dropout(std::integral_constant<int, 128>{});
}

/// body(T{}, Wide{}) for the formats of attention's inputs and of its log-sums.
template <class Body>
void with_formats(DType type, const Body& body) {
  switch (type) {
    case DType::f64:
      return body(double{}, double{});
    case DType::bf16:
      return body(BFloat16{}, float{});
    case DType::f16:
      return body(Float16{}, float{});
    default:
      return body(float{}, float{});
  }
}

}  // namespace accrue::cuda
