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

/// Whether oneDNN's f32 products have the bits of one thread with 2, 3 and 5: of a transformer's
/// shapes, with what is transposed in them.
inline bool products_ignore_threads() {
  const auto product = [](int64_t M, int64_t N, int64_t K, bool of_weight, int threads) {
    const Threads set(threads);
    const Tensor a = tensor_of({M, K}, random_numbers(M * K, 1), single);
    const Tensor b = tensor_of({N, K}, random_numbers(N * K, 2), single);
    Tensor c({M, N}, DType::f32, single.device);
    const Tensor left = of_weight ? a.reshape({K, M}).transpose(0, 1) : a;
    const Tensor right = of_weight ? b.reshape({K, N}) : b.transpose(0, 1);
    launch(c.device(), kernel::Matmul{left.in(), right.in(), c.out(), Write::set});
    return bits_of(c);
  };
  for (const auto& [M, N, K] :
       {std::array<int64_t, 3>{32, 192, 64}, {128, 64, 256}, {512, 384, 128}})
    for (bool of_weight : {false, true})
      for (int threads : {2, 3, 5})
        if (product(M, N, K, of_weight, threads) != product(M, N, K, of_weight, 1)) return false;
  return true;
}

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
  if (__builtin_cpu_supports("avx512f")) {
    CHECK(products_ignore_threads());
    return Device::cpu();
  }
#endif
  MESSAGE("no AVX-512: products are made by one thread");
  return {&fixed};
}

}  // namespace accrue::test
