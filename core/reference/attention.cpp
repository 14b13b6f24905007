// Causal attention, one query at a time.
// Source: Vaswani et al., arXiv 1706.03762; backward from the log-sums: Dao et al., arXiv
// 2205.14135.
#include <cmath>
#include <limits>
#include <vector>

#include "accrue/core/reference/elements.h"
#include "accrue/core/reference/kernels.h"

namespace accrue::reference {

void attention(const kernel::Attention& args, void*) {
  const Reader q(args.q), k(args.k), v(args.v), samples(args.samples);
  const Writer y(args.y, Write::set), logsum(args.logsum, Write::set);
  const Shape& shape = args.q.shape;
  const int64_t B = shape[0], T = shape[1], H = shape[2], D = shape[3];
  std::vector<double> score(T);

  const auto attend = [&](int64_t b, int64_t h, int64_t t) {
    double largest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int64_t s = 0; s <= t; ++s) {
      score[s] = 0;
      for (int64_t d = 0; d < D; ++d) score[s] += q(b, t, h, d) * k(b, s, h, d) / std::sqrt(D);
      largest = std::max(largest, score[s]);
    }
    for (int64_t s = 0; s <= t; ++s) sum += std::exp(score[s] - largest);
    const double logarithm = largest + std::log(sum);
    logsum.write({b, h, t}, logarithm);

    const int64_t sample = args.p > 0 ? static_cast<int64_t>(samples[b]) : 0;
    for (int64_t s = 0; s <= t; ++s)
      score[s] = std::exp(score[s] - logarithm) *
                 dropout_factor(args.key, sample, (h * T + t) * T + s, args.p);
    for (int64_t d = 0; d < D; ++d) {
      double mixed = 0;
      for (int64_t s = 0; s <= t; ++s) mixed += score[s] * v(b, s, h, d);
      y.write({b, t, h, d}, mixed);
    }
  };
  for (int64_t b = 0; b < B; ++b)
    for (int64_t h = 0; h < H; ++h)
      for (int64_t t = 0; t < T; ++t) attend(b, h, t);
}

// With P = softmax, m = dropout's factor and dP_ts = m_ts·(dy_t·v_s):
//   dv_s = Σ_t m_ts·P_ts·dy_t;  dS_ts = P_ts·(dP_ts − Σ_s P_ts·dP_ts)/√D;
//   dq_t = Σ_s dS_ts·k_s;  dk_s = Σ_t dS_ts·q_t.
void attention_backward(const kernel::AttentionBackward& args, void*) {
  const Reader q(args.q), k(args.k), v(args.v), logsum(args.logsum), dy(args.dy);
  const Reader samples(args.samples);
  const Writer dq(args.dq, args.write), dk(args.dk, args.write), dv(args.dv, args.write);
  const Shape& shape = args.q.shape;
  const int64_t B = shape[0], T = shape[1], H = shape[2], D = shape[3];
  std::vector<double> weight(T), dweight(T), sum_k(T * D), sum_v(T * D);

  // Writes dq of one query and adds its part to the sums of all keys and values before it.
  const auto attend = [&](int64_t b, int64_t h, int64_t t) {
    const int64_t sample = args.p > 0 ? static_cast<int64_t>(samples[b]) : 0;
    double mean = 0;
    for (int64_t s = 0; s <= t; ++s) {
      double score = 0, dot = 0;
      for (int64_t d = 0; d < D; ++d) {
        score += q(b, t, h, d) * k(b, s, h, d) / std::sqrt(D);
        dot += dy(b, t, h, d) * v(b, s, h, d);
      }
      const double factor = dropout_factor(args.key, sample, (h * T + t) * T + s, args.p);
      weight[s] = std::exp(score - logsum(b, h, t));
      dweight[s] = factor * dot;
      mean += weight[s] * dweight[s];
      for (int64_t d = 0; d < D; ++d) sum_v[s * D + d] += factor * weight[s] * dy(b, t, h, d);
    }
    for (int64_t d = 0; d < D; ++d) {
      double sum_q = 0;
      for (int64_t s = 0; s <= t; ++s) {
        const double dscore = weight[s] * (dweight[s] - mean) / std::sqrt(D);
        sum_q += dscore * k(b, s, h, d);
        sum_k[s * D + d] += dscore * q(b, t, h, d);
      }
      dq.write({b, t, h, d}, sum_q);
    }
  };
  for (int64_t b = 0; b < B; ++b)
    for (int64_t h = 0; h < H; ++h) {
      sum_k.assign(T * D, 0);
      sum_v.assign(T * D, 0);
      for (int64_t t = 0; t < T; ++t) attend(b, h, t);
      for (int64_t s = 0; s < T; ++s)
        for (int64_t d = 0; d < D; ++d) {
          dk.write({b, s, h, d}, sum_k[s * D + d]);
          dv.write({b, s, h, d}, sum_v[s * D + d]);
        }
    }
}

}  // namespace accrue::reference
