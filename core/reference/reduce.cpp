// Sums over dimensions and over tensors.
#include <vector>

#include "accrue/core/reference/elements.h"
#include "accrue/core/reference/kernels.h"

namespace accrue::reference {

void sum_to(const kernel::SumTo& args, void*) {
  // The sums are kept in f64, so that `to` rounds each of them once.
  const Shape& shape = args.to.shape;
  std::vector<double> totals(shape.elements());
  const Out place{totals.data(), shape, contiguous_strides(shape), DType::f64};

  const Reader from(args.from);
  const Writer total(stretch(place, args.from.shape), Write::add), to(args.to, args.write);
  for (int64_t e = 0; e < args.from.shape.elements(); ++e) total.write(e, from[e]);
  for (int64_t e = 0; e < shape.elements(); ++e) to.write(e, totals[e]);
}

void dot(const kernel::Dot& args, void*) {
  double sum = 0;
  for (size_t i = 0; i < args.a.size(); ++i) {
    const Reader a(args.a[i]), b(args.b[i]);
    for (int64_t e = 0; e < args.a[i].shape.elements(); ++e) sum += a[e] * b[e];
  }
  Writer(args.result, Write::set).write(0, sum);
}

}  // namespace accrue::reference
