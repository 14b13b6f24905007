// Folds that are no formula of single elements: one draws numbers, one keeps the largest beside.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "accrue/core/cpu/dispatch.h"
#include "accrue/core/cpu/draws.h"
#include "accrue/core/cpu/kernels.h"

namespace accrue::cpu {
namespace {

/// Returns the largest |x| by its bits; a NaN's are above those of infinity.
template <class T>
uint64_t add_terms(const T* x, int64_t n, double factor, bool adds, uint64_t* totals) {
  const uint64_t mask = adds ? ~uint64_t(0) : 0;  // what was there counts, or is cleared
  uint64_t most = 0;
#pragma omp parallel for simd reduction(max : most) if (parallel : n > 16384)
  for (int64_t i = 0; i < n; ++i) {
    const auto g = static_cast<double>(x[i]);
    const uint64_t size = std::bit_cast<uint64_t>(std::abs(g));
    most = most > size ? most : size;
    totals[i] = (totals[i] & mask) + static_cast<uint64_t>(fold::fixed_point_term(g, factor));
  }
  return most;
}

}  // namespace

void stochastic_add(const kernel::StochasticAdd& args, void*) {
  constexpr int64_t chunk = 8 * lanes;  // of one draw in each lane, 16 bits an element
  const int64_t n = args.sum.shape.elements();
  const bool adds = args.write == Write::add;
  auto* sums = static_cast<BFloat16*>(args.sum.data);
  with_any(args.x.dtype, [&]<class T>(T) {
    const T* x = static_cast<const T*>(args.x.data);
    parallel_rows((n + chunk - 1) / chunk, 4 * chunk, [&](int64_t begin, int64_t end) {
      for (int64_t first = begin * chunk; first < std::min(n, end * chunk); first += chunk) {
        uint32_t words[4 * lanes];
        draw_row(args.key, 0, first / 8, words);
        const auto random = std::bit_cast<std::array<uint16_t, chunk>>(words);
        const int64_t count = std::min(chunk, n - first);
#pragma omp simd
        for (int64_t i = 0; i < count; ++i) {
          const float before = adds ? float(sums[first + i]) : 0;
          sums[first + i] =
              fold::round_stochastically(before + static_cast<float>(x[first + i]), random[i]);
        }
      }
    });
  });
}

void fixed_point_add(const kernel::FixedPointAdd& args, void*) {
  const bool adds = args.write == Write::add;
  auto* totals = static_cast<uint64_t*>(args.total.data);                        // may wrap
  auto most = std::bit_cast<uint64_t>(std::numeric_limits<double>::infinity());  // at the most
  with_any(args.x.dtype, [&]<class T>(T) {
    most = std::min(most, add_terms(static_cast<const T*>(args.x.data), args.x.shape.elements(),
                                    args.factor, adds, totals));
  });
  auto& largest = *static_cast<double*>(args.largest.data);
  largest = std::max(adds ? largest : 0.0, std::bit_cast<double>(most));
}

}  // namespace accrue::cpu
