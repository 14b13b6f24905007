// ragged_batches: what a token weighs when micro-batches hold different numbers of them.
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "program.h"

using namespace accrue;

namespace {

// Two sequences of seven positions; the first has one token to predict, the second seven.
TokenBatch ragged(Device device) {
  constexpr int32_t none = -100;
  const std::vector<int32_t> tokens{1, 2, 3, 4, 5, 6, 7, 7, 6, 5, 4, 3, 2, 1};
  const std::vector<int32_t> targets{2, none, none, none, none, none, none, 6, 5, 4, 3, 2, 1, 0};
  return {Tensor::of<int32_t>({2, 7}, tokens, device),
          Tensor::of<int32_t>({2, 7}, targets, device),
          {0, 1}};
}

using Numbers = std::vector<double>;

// The whole model's gradient as one vector, each sum times `weight`.
Numbers gradient(const ClosedCycle& closed, double weight) {
  Numbers all;
  for (const GradBuffer* buffer : closed.buffers())
    for (double one : buffer->state("sum").to_vector()) all.push_back(weight * one);
  return all;
}

double distance(const Numbers& a, const Numbers& b) {
  double off = 0, of = 0;
  for (size_t i = 0; i < a.size(); ++i) off += (a[i] - b[i]) * (a[i] - b[i]), of += b[i] * b[i];
  return std::sqrt(off / of);
}

void run(Device device) {
  Gpt model({.layers = 1, .heads = 2, .width = 8, .context = 7, .vocabulary = 8});
  const DType dtype = examples::widest(device);
  const double rounding = dtype == DType::f64 ? 1e-12 : 1e-6;
  initialize(model, {device, dtype}, Seed{1});
  const TokenBatch batch = ragged(device);
  const auto loss = [&](const TokenBatch& micro) {
    return cross_entropy(model(micro.tokens), micro.targets);
  };
  Cycle cycle(parameters(model));

  Numbers whole;
  {
    const ClosedCycle closed = cycle.run(batch, {.samples = 2}, loss);
    whole = gradient(closed, 1 / closed.count());
    std::printf("one batch:          %g tokens, mean loss %.6f\n", closed.count(),
                closed.mean_loss());
  }
  Numbers accrued;
  {
    const ClosedCycle closed = cycle.run(batch, {.samples = 1}, loss);
    accrued = gradient(closed, 1 / closed.count());
    for (const MicroRecord& micro : closed.records())
      std::printf("  micro-batch:      %g tokens, loss sum %.6f\n", micro.count, micro.loss);
    std::printf("two micro-batches:  %g tokens, mean loss %.6f\n", closed.count(),
                closed.mean_loss());
  }
  // The mistake: each micro-batch's mean, and then the mean of those.
  Numbers mean_of_means(whole.size());
  double mean_loss = 0, counts[2];
  for (int64_t k = 0; k < 2; ++k) {
    const ClosedCycle closed = cycle.run(batch.slice(k, 1), {.samples = 1}, loss);
    counts[k] = closed.count();
    mean_loss += closed.mean_loss() / 2;
    const Numbers part = gradient(closed, 1 / closed.count() / 2);
    for (size_t i = 0; i < part.size(); ++i) mean_of_means[i] += part[i];
  }
  std::printf("mean of means:      mean loss %.6f\n", mean_loss);
  std::printf("weight of a token:  1/%g = %.3f; by the mean of means %.3f and %.3f\n",
              counts[0] + counts[1], 1 / (counts[0] + counts[1]), 0.5 / counts[0], 0.5 / counts[1]);
  const double good = distance(accrued, whole), bad = distance(mean_of_means, whole);
  std::printf("gradient, two micro-batches against one batch: equal to %g: %s\n", rounding,
              good <= rounding ? "yes" : "no");
  std::printf("gradient, mean of means against one batch: off by %.0f %%\n", 100 * bad);
  std::printf("%s\n",
              nlohmann::json{{"accrued_error", good}, {"mean_of_means_error", bad}}.dump().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  return examples::run_tutorial(
      "ragged_batches", "What a token weighs when micro-batches hold different numbers of them.",
      argc, argv, run);
}
