// Accumulators' formulas in the dtype that they are declared in: rounding is what they are about.
#include <algorithm>
#include <cmath>
#include <limits>

#include "accrue/core/reference/elements.h"
#include "accrue/core/reference/kernels.h"

namespace accrue::reference {
namespace {

// to: what is read and written; a: what is read.
template <class T>
void apply(fold::Add, T* to, const T* a) {
  to[0] = to[0] + a[0];
}
template <class T>
void apply(fold::AddTwo, T* to, const T* a) {
  const T both = a[0] + a[1];
  to[0] = to[0] + both;
}
template <class T>
void apply(fold::AddThree, T* to, const T* a) {
  const T last = a[1] + a[2], all = a[0] + last;
  to[0] = to[0] + all;
}
template <class T>
void apply(fold::Kahan, T* to, const T* a) {
  const T sum = to[0], term = a[0] - to[1];
  to[0] = sum + term;
  to[1] = (to[0] - sum) - term;
}
template <class T>
void apply(fold::Average average, T* to, const T* a) {
  to[0] += static_cast<T>(average.gain) * (a[0] - to[0]);
}
template <class T>
void apply(fold::Swap, T* to, const T*) {
  std::swap(to[0], to[1]);
}

template <class T, class Formula>
void map_as(const kernel::Map<Formula>& args) {
  for (int64_t e = 0; e < args.outs[0].shape.elements(); ++e) {
    T to[Formula::outs], a[Formula::ins + 1];  // no array is empty
    for (int i = 0; i < Formula::outs; ++i) to[i] = static_cast<T>(Reader(args.outs[i])[e]);
    for (int i = 0; i < Formula::ins; ++i) a[i] = static_cast<T>(Reader(args.ins[i])[e]);
    apply(args.formula, to, a);
    for (int i = 0; i < Formula::outs; ++i) Writer(args.outs[i], Write::set).write(e, to[i]);
  }
}

}  // namespace

template <class Formula>
void map(const kernel::Map<Formula>& args, void*) {
  if (args.outs[0].dtype == DType::f64)
    map_as<double>(args);
  else
    map_as<float>(args);
}
template void map(const kernel::Map<fold::Add>&, void*);
template void map(const kernel::Map<fold::AddTwo>&, void*);
template void map(const kernel::Map<fold::AddThree>&, void*);
template void map(const kernel::Map<fold::Kahan>&, void*);
template void map(const kernel::Map<fold::Average>&, void*);
template void map(const kernel::Map<fold::Swap>&, void*);

void stochastic_add(const kernel::StochasticAdd& args, void*) {
  const Reader x(args.x), before(args.sum);
  auto* sums = static_cast<BFloat16*>(args.sum.data);
  for (int64_t e = 0; e < args.sum.shape.elements(); ++e) {
    const uint32_t two = args.key.draw(0, static_cast<uint64_t>(e / 8))[e % 8 / 2];
    const uint32_t random = e % 2 ? two >> 16 : two & 0xffff;
    const float sum = static_cast<float>(x[e]) +
                      (args.write == Write::add ? static_cast<float>(before[e]) : 0.0f);
    // Carries into the upper half as often as what is cut off is large.
    const uint32_t raised = std::bit_cast<uint32_t>(sum) + random;
    sums[e] =
        std::isfinite(sum) ? BFloat16(std::bit_cast<float>(raised & 0xffff0000)) : BFloat16(sum);
  }
}

void fixed_point_add(const kernel::FixedPointAdd& args, void*) {
  const Reader x(args.x);
  auto* totals = static_cast<int64_t*>(args.total.data);
  auto& largest = *static_cast<double*>(args.largest.data);
  if (args.write == Write::set) largest = 0;
  for (int64_t e = 0; e < args.x.shape.elements(); ++e) {
    const bool finite = std::isfinite(x[e]);
    largest = std::max(largest, finite ? std::abs(x[e]) : std::numeric_limits<double>::infinity());
    const double scaled = finite ? std::clamp(x[e] * args.factor, -0x1p62, 0x1p62) : 0;
    const uint64_t before = args.write == Write::add ? static_cast<uint64_t>(totals[e]) : 0;
    totals[e] = static_cast<int64_t>(before + static_cast<uint64_t>(std::llrint(scaled)));
  }
}

}  // namespace accrue::reference
