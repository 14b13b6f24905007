// What accumulators and averages do with whole tensors.
#include <algorithm>
#include <cmath>
#include <limits>

#include "accrue/core/cpu/dispatch.h"
#include "accrue/core/cpu/kernels.h"
#include "accrue/core/map.h"

namespace accrue::cpu {

template <class Formula>
void map(const kernel::Map<Formula>& args, void*) {
  detail::map_on_host<Formula::outs, Formula::ins>(args.formula, args.outs.data(), args.ins.data());
}
template void map(const kernel::Map<fold::Add>&, void*);
template void map(const kernel::Map<fold::AddTwo>&, void*);
template void map(const kernel::Map<fold::AddThree>&, void*);
template void map(const kernel::Map<fold::Kahan>&, void*);
template void map(const kernel::Map<fold::Average>&, void*);
template void map(const kernel::Map<fold::Swap>&, void*);

void stochastic_add(const kernel::StochasticAdd& args, void*) {
  constexpr int64_t block = 8, work_of_draw = 64;
  const int64_t n = args.sum.shape.elements();
  auto* sums = static_cast<BFloat16*>(args.sum.data);
  parallel_rows((n + block - 1) / block, work_of_draw, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const auto draws = args.key.draw(0, static_cast<uint64_t>(b));  // two of 16 bits each
      for (int64_t i = b * block; i < std::min(n, (b + 1) * block); ++i) {
        const uint32_t random = draws[i % block / 2] >> 16 * (i % 2) & 0xffff;
        const float before = args.write == Write::add ? static_cast<float>(sums[i]) : 0;
        sums[i] = fold::round_stochastically(before + detail::load<float>(args.x, i), random);
      }
    }
  });
}

void fixed_point_add(const kernel::FixedPointAdd& args, void*) {
  const int64_t n = args.x.shape.elements();
  const In x = args.x;
  const double factor = args.factor;
  const bool adds = args.write == Write::add;
  auto* totals = static_cast<int64_t*>(args.total.data);
  double most = 0;
#pragma omp parallel for reduction(max : most) if (n > 16384)
  for (int64_t i = 0; i < n; ++i) {
    const auto g = detail::load<double>(x, i);
    most = std::max(most, std::isfinite(g) ? std::abs(g) : std::numeric_limits<double>::infinity());
    const auto before = static_cast<uint64_t>(adds ? totals[i] : 0);  // unsigned: may wrap
    totals[i] =
        static_cast<int64_t>(before + static_cast<uint64_t>(fold::fixed_point_term(g, factor)));
  }
  auto& largest = *static_cast<double*>(args.largest.data);
  largest = adds ? std::max(largest, most) : most;
}

}  // namespace accrue::cpu
