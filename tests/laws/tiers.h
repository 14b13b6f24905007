// What the tests of the tiers share: a model with all that could depend on the split, and the bits
// of its training.
#pragma once
#include <omp.h>

#include <functional>

#include "support.h"

namespace accrue::test {

inline const Where single{Device::cpu(), DType::f32}, half{Device::cpu(), DType::bf16},
    f16{Device::cpu(), DType::f16};
constexpr int64_t tier_sizes[]{1, 2, 3, 4, 6, 7, 12};
// Ragged: sequences of different lengths, one of them empty.
inline const std::vector<int64_t> tier_lengths{6, 1, 4, 6, 0, 2, 5, 3, 6, 6, 1, 4};

inline GptConfig with_dropout() {
  GptConfig config = tiny_gpt();  // tied weights
  config.dropout = 0.2;
  return config;
}

struct Stage {
  Gpt model;
  TokenBatch batch;
  explicit Stage(Where where, const GptConfig& config = with_dropout(),
                 const std::vector<int64_t>& lengths = tier_lengths)
      : model(config),
        batch(token_batch(config, static_cast<int64_t>(lengths.size()), where.device, 5, lengths)) {
    initialize(model, {where.device, where.dtype}, Seed{1});
  }
};

/// Of the optimizer that the cycle will be stepped by.
using Choose = std::function<CycleOptions(AdamW&)>;

/// Weights, optimizer and losses after some steps, as bits. `clip`: of the global norm; 0: none.
inline std::string trained(const Stage& s, const Choose& choose, int64_t micro, int64_t steps = 2,
                           double clip = 1) {
  AdamW optimizer(parameters(s.model), {.lr = 0.01, .weight_decay = 0.1, .clip = clip});
  Cycle cycle(parameters(s.model), choose(optimizer));
  std::string losses;
  for (int64_t i = 0; i < steps; ++i) {
    const StepReport report =
        optimizer.step(cycle.run(s.batch, {.samples = micro}, chunked_loss(s.model)));
    CHECK(!report.skipped);
    losses += text(std::bit_cast<int64_t>(report.mean_loss), ' ',
                   std::bit_cast<int64_t>(report.gradient_norm), ' ');
  }
  return weight_bits(parameters(s.model)) + state_bits(optimizer) + losses;
}

inline std::string trained(Where where, const CycleOptions& options, int64_t micro,
                           int64_t steps = 2) {
  return trained(
      Stage(where), [&](AdamW&) { return options; }, micro, steps);
}

/// So many threads while it lives.
struct Threads {
  int before = omp_get_max_threads();
  explicit Threads(int count) { omp_set_num_threads(count); }
  ~Threads() { omp_set_num_threads(before); }
};

namespace detail {

template <class Args>
void make_single(Backend& backend) {
  std::get<Kernel<Args>>(backend.kernels) = {
      [](const Args& args) {
        const Threads one(1);
        return std::get<Kernel<Args>>(Device::cpu().backend->kernels).workspace(args);
      },
      [](const Args& args, void* workspace) {
        const Threads one(1);
        std::get<Kernel<Args>>(Device::cpu().backend->kernels).run(args, workspace);
      }};
}

}  // namespace detail

/// cpu. Without AVX-512 oneDNN's products depend on the number of threads (chapter 4 says so):
/// there they are made by one, and what is tested is all else.
inline Device cpu_with_fixed_products() {
  static const Backend fixed = [] {
    Backend made = *Device::cpu().backend;
    detail::make_single<kernel::Matmul>(made);
    detail::make_single<kernel::MatmulUnary>(made);
    detail::make_single<kernel::MatmulUnaryBackward>(made);
    return made;
  }();
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return Device::cpu();
#endif
  MESSAGE("no AVX-512: products are made by one thread");
  return {&fixed};
}

}  // namespace accrue::test
