// Optimizers. They read the sum and write everything else.
#include <cmath>

#include "accrue/core/reference/elements.h"
#include "accrue/core/reference/kernels.h"

namespace accrue::reference {
namespace {

/// The new weight, and its working copy where there is one.
void write_weight(const Out& weight, const Out& copy, int64_t e, double value) {
  Writer(weight, Write::set).write(e, value);
  if (copy) Writer(copy, Write::set).write(e, Reader(weight)[e]);
}

}  // namespace

void sgd(const kernel::Sgd& args, void*) {
  for (const kernel::SgdItem& item : args.items) {
    const Reader sum(item.sum), weight(item.weight), velocity(item.velocity);
    for (int64_t e = 0; e < item.weight.shape.elements(); ++e) {
      const double w = weight[e];
      const double g = (item.sum ? sum[e] * args.scale : 0) + args.weight_decay * w;
      const double u = (item.velocity ? args.momentum * velocity[e] : 0) + g;
      if (item.velocity) Writer(item.velocity, Write::set).write(e, u);
      write_weight(item.weight, item.copy, e,
                   w - args.lr * (args.nesterov ? g + args.momentum * u : u));
    }
  }
}

void adam(const kernel::Adam& args, void*) {
  for (const kernel::AdamItem& item : args.items) {
    const Reader sum(item.sum), weight(item.weight), mean(item.mean), variance(item.variance);
    for (int64_t e = 0; e < item.mean.shape.elements(); ++e) {
      double w = item.weight ? weight[e] : 0, g = item.sum ? sum[e] * args.scale : 0;
      if (args.decoupled)
        w -= args.lr * args.weight_decay * w;
      else
        g += args.weight_decay * w;

      const double m = args.decay1 * mean[e] + args.gain1 * g;
      const double v = args.decay2 * variance[e] + args.gain2 * g * g;
      Writer(item.mean, Write::set).write(e, m);
      Writer(item.variance, Write::set).write(e, v);
      if (!item.weight) continue;
      const double root = std::sqrt(v / args.correction2) + args.epsilon;
      write_weight(item.weight, item.copy, e, w - args.lr * (m / args.correction1) / root);
    }
  }
}

}  // namespace accrue::reference
