// LayerNorm and RMSNorm.
// Sources: Ba et al., arXiv 1607.06450; Zhang & Sennrich, arXiv 1910.07467.
#include <cmath>

#include "accrue/core/reference/elements.h"
#include "accrue/core/reference/kernels.h"

namespace accrue::reference {

void norm(const kernel::Norm& args, void*) {
  const Reader x(args.branch ? In(args.sum) : args.x), gamma(args.gamma), beta(args.beta);
  const Writer y(args.y, Write::set), statistics(args.statistics, Write::set);
  const int64_t C = args.x.shape[-1], R = args.x.shape.elements() / C;
  const Reader given(args.x), branch(args.branch);
  const Writer sum(args.sum, Write::set);
  for (int64_t i = 0; args.branch && i < R * C; ++i) sum.write(i, given[i] + branch[i]);

  for (int64_t r = 0; r < R; ++r) {
    double mean = 0, variance = 0;
    if (args.centered)
      for (int64_t c = 0; c < C; ++c) mean += x[r * C + c] / C;
    for (int64_t c = 0; c < C; ++c) variance += std::pow(x[r * C + c] - mean, 2) / C;
    const double inverse = 1 / std::sqrt(variance + args.epsilon);

    for (int64_t c = 0; c < C; ++c)
      y.write(r * C + c, (x[r * C + c] - mean) * inverse * gamma[c] + (args.beta ? beta[c] : 0));
    statistics.write(2 * r, mean);
    statistics.write(2 * r + 1, inverse);
  }
}

// With x̂ = (x − μ)·σ⁻¹ and g = gamma·dy:
//   dx = σ⁻¹·(g − E g − x̂·E(g·x̂)), without E g where not centered;
//   dgamma = Σ_r dy·x̂, dbeta = Σ_r dy.
void norm_backward(const kernel::NormBackward& args, void*) {
  const Reader x(args.x), gamma(args.gamma), statistics(args.statistics), dy(args.dy);
  const int64_t C = args.x.shape[-1], R = args.x.shape.elements() / C;
  const auto normalized = [&](int64_t r, int64_t c) {
    const double mean = args.centered ? statistics[2 * r] : 0;
    return (x[r * C + c] - mean) * statistics[2 * r + 1];
  };

  for (int64_t r = 0; args.dx && r < R; ++r) {
    double mean_g = 0, mean_gx = 0;
    for (int64_t c = 0; c < C; ++c) {
      const double g = gamma[c] * dy[r * C + c];
      if (args.centered) mean_g += g / C;
      mean_gx += g * normalized(r, c) / C;
    }
    for (int64_t c = 0; c < C; ++c) {
      const double g = gamma[c] * dy[r * C + c];
      const double inner = g - mean_g - normalized(r, c) * mean_gx;
      Writer(*args.dx).write(r * C + c, statistics[2 * r + 1] * inner);
    }
  }
  for (int64_t c = 0; c < C; ++c) {
    double sum = 0, sum_x = 0;
    for (int64_t r = 0; r < R; ++r) {
      sum += dy[r * C + c];
      sum_x += dy[r * C + c] * normalized(r, c);
    }
    if (args.dgamma) Writer(*args.dgamma).write(c, sum_x);
    if (args.dbeta) Writer(*args.dbeta).write(c, sum);
  }
}

}  // namespace accrue::reference
