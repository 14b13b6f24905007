// A GPT with everything in it, verified; shared by the tests of verify_cycle().
#pragma once
#include "support.h"

namespace accrue::test {

inline const Where f32{Device::cpu(), DType::f32};
inline const std::vector<int64_t> valid{6, 1, 4, 6, 0, 2, 5, 3};

inline GptConfig with_everything() {
  GptConfig config = tiny_gpt();  // tied
  config.dropout = 0.2;
  config.recompute = Recompute::block;
  return config;
}

struct Verified {
  Gpt model;
  TokenBatch batch;
  explicit Verified(Where where, const GptConfig& config = with_everything())
      : model(config), batch(token_batch(config, 8, where.device, 5, valid)) {
    initialize(model, {where.device, where.dtype}, Seed{1});
  }
  Verification verify(CycleOptions options = {}, int64_t size = 3) const {
    const Cycle cycle(parameters(model), std::move(options));
    return verify_cycle(cycle, batch, {.samples = size}, [&](const TokenBatch& micro) {
      return cross_entropy(model(micro.tokens), micro.targets);
    });
  }
};

inline double worst(const Verification& report) {
  double most = 0;
  for (const ParameterError& one : report.parameters)
    if (!(one.relative <= most)) most = one.relative;
  return most;
}

}  // namespace accrue::test
