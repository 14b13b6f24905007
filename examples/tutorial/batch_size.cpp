// batch_size: the gradient noise scale where the answer is known, and what follows from it for
// batch size, learning rate and beta2.
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "program.h"

using namespace accrue;

namespace {

// The gradient of w·x is x: samples of x are samples of a gradient with a mean and a spread that we
// choose.
struct Weights {
  Parameter w{{64, 1}, ones()};
  void visit(Visitor& part) { part("w", w); }
};

struct Gradients {
  Tensor x;
  std::vector<int64_t> indices;
  std::span<const int64_t> samples() const { return indices; }
  Gradients slice(int64_t first, int64_t count) const {
    const auto begin = indices.begin() + first;
    return {x.slice(first, count), {begin, begin + count}};
  }
};

constexpr double mean = 0.5, spread = 2;  // |G|² = 64·0.25 = 16; S = 64·4 = 256: B_simple = 16

Gradients draw(int64_t count, int64_t cycle, Device device) {
  std::vector<float> x;
  for (int64_t i = 0; i < count * 64; i += 2) {
    const auto bits = RandomKey{hash_of(1, "gradients"), cycle}.draw(0, static_cast<uint64_t>(i));
    for (double one : normal_pair(bits[0], bits[1]))
      x.push_back(static_cast<float>(mean + spread * one));
  }
  Gradients all{Tensor::of<float>({count, 64}, x, device), {}};
  for (int64_t i = 0; i < count; ++i) all.indices.push_back(cycle * count + i);
  return all;
}

void run(Device device) {
  Weights model;
  initialize(model, {device}, Seed{1});
  Sgd optimizer(parameters(model), {.lr = 0.001});
  Cycle cycle(parameters(model), {.noise_scale = true});
  NoiseScale noise(0.999);
  std::printf("%-24s %8s %8s %9s\n", "", "|G|^2", "S", "B_simple");
  std::printf("%-24s %8.1f %8.1f %9.1f\n", "chosen", 64 * mean * mean, 64 * spread * spread,
              spread * spread / (mean * mean));
  nlohmann::ordered_json result;
  for (int64_t i = 1; i <= 4000; ++i) {
    ClosedCycle closed =
        cycle.run(draw(16, i, device), {.samples = 4}, [&](const Gradients& micro) {
          return Loss(sum(matmul(micro.x, model.w)), micro.x.shape()[0]);
        });
    const std::optional<Prefix> prefix = closed.prefix();
    noise.update(prefix, optimizer.step(std::move(closed)));
    if (i != 40 && i != 100 && i != 400 && i != 1000 && i != 4000) continue;
    std::printf("after %4lld cycles %18.1f %8.1f %9.1f\n", static_cast<long long>(i),
                noise.squared_gradient(), noise.variance(), noise.value().value_or(NAN));
    result["noise_scale"] = noise.value().value_or(NAN);
  }

  std::printf("\n%-8s %12s %12s %14s %16s\n", "batch", "lr, linear", "lr, sqrt", "beta2 = 0.95",
              "beta2, half-life");
  for (double batch : {512.0, 64.0, 1.0}) {
    const double kappa = batch / 512;
    std::printf(
        "%-8g %12.2e %12.2e %14.2f %16.6f\n", batch, 4.8e-3 * rate_factor(RateRule::linear, kappa),
        4.8e-3 * rate_factor(RateRule::square_root, kappa), 0.95, scaled_beta(0.95, 512, batch));
  }
  result["beta2_at_1"] = scaled_beta(0.95, 512, 1);
  std::printf("%s\n", result.dump().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  return examples::run_tutorial(
      "batch_size", "The gradient noise scale where the answer is known, and what follows from it.",
      argc, argv, run);
}
