// Losses: cross-entropy and squared error.
#include <algorithm>
#include <cmath>
#include <limits>

#include "accrue/core/reference/elements.h"
#include "accrue/core/reference/kernels.h"

namespace accrue::reference {

void cross_entropy(const kernel::CrossEntropy& args, void*) {
  const Reader logits(args.logits), targets(args.targets);
  const Writer logsum(args.logsum, Write::set);
  const int64_t R = args.targets.shape.elements(), V = args.logits.shape[-1];

  double loss = 0;
  for (int64_t r = 0; r < R; ++r) {
    double largest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int64_t v = 0; v < V; ++v) largest = std::max(largest, logits[r * V + v]);
    for (int64_t v = 0; v < V; ++v) sum += std::exp(logits[r * V + v] - largest);
    const double logarithm = largest + std::log(sum);
    logsum.write(r, logarithm);

    const auto target = static_cast<int64_t>(targets[r]);
    if (target != args.ignore) loss += logarithm - logits[r * V + target];
  }
  Writer(args.loss, args.write).write(0, loss);
}

void cross_entropy_backward(const kernel::CrossEntropyBackward& args, void*) {
  const Reader logits(args.logits), targets(args.targets), logsum(args.logsum), factor(args.factor);
  const Writer dlogits(args.dlogits);
  const int64_t R = args.targets.shape.elements(), V = args.logits.shape[-1];

  for (int64_t r = 0; r < R; ++r) {
    const auto target = static_cast<int64_t>(targets[r]);
    for (int64_t v = 0; v < V; ++v) {
      const double softmax = std::exp(logits[r * V + v] - logsum[r]);
      const double gradient = factor[0] * (softmax - (v == target ? 1 : 0));
      dlogits.write(r * V + v, target == args.ignore ? 0 : gradient);
    }
  }
}

void count_targets(const kernel::CountTargets& args, void*) {
  const Reader targets(args.targets);
  int64_t count = 0;
  for (int64_t r = 0; r < args.targets.shape.elements(); ++r) count += targets[r] != args.ignore;
  Writer(args.count, Write::set).write(0, static_cast<double>(count));
}

void squared_error(const kernel::SquaredError& args, void*) {
  const Reader x(args.x), target(args.target);
  double loss = 0;
  for (int64_t e = 0; e < args.x.shape.elements(); ++e) loss += std::pow(x[e] - target[e], 2);
  Writer(args.loss, Write::set).write(0, loss);
}

void squared_error_backward(const kernel::SquaredErrorBackward& args, void*) {
  const Reader x(args.x), target(args.target), factor(args.factor);
  const Writer dx(args.dx);
  for (int64_t e = 0; e < args.x.shape.elements(); ++e)
    dx.write(e, factor[0] * 2 * (x[e] - target[e]));
}

}  // namespace accrue::reference
