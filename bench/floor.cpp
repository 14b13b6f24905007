#include "floor.h"

#include <algorithm>
#include <random>

namespace accrue::bench {
namespace {

std::vector<Gemm>* log_to = nullptr;

size_t log_matmul(const kernel::Matmul& args) {
  const Gemm gemm{args.a.shape[0],
                  args.b.shape[1],
                  args.a.shape[1],
                  args.a.strides[1] != 1 && args.a.shape[1] != 1,
                  args.b.strides[1] != 1 && args.b.shape[1] != 1,
                  args.write == Write::set || args.c.dtype == args.a.dtype,
                  args.a.dtype,
                  args.c.dtype,
                  args.write};
  if (log_to) log_to->push_back(gemm);
  return 0;
}

// Products with an activation are logged as the products that they are.
size_t log_unary(const kernel::MatmulUnary& args) {
  return log_matmul({args.a, args.b, args.z, Write::set, args.bias});
}
size_t log_unary_backward(const kernel::MatmulUnaryBackward& args) {
  return log_matmul({args.a, args.b, args.dz, Write::set});
}

bool same(const Gemm& a, const Gemm& b) {
  return a.m == b.m && a.n == b.n && a.k == b.k && a.a_transposed == b.a_transposed &&
         a.b_transposed == b.b_transposed && a.out == b.out && a.weight == b.weight;
}

Tensor random_matrix(int64_t rows, int64_t columns, DType dtype, bool transposed, Device device) {
  if (transposed) return random_tensor({columns, rows}, dtype, device).transpose(0, 1);
  return random_tensor({rows, columns}, dtype, device);
}

// Seconds for one product, the median over sweeps through operands of `layers` distinct layers.
double time_gemm(const Gemm& g, bool a_transposed, bool b_transposed, int64_t layers, int repeats,
                 Device device) {
  struct Operands {
    Tensor a, b, c;
  };
  std::vector<Operands> all;
  for (int64_t i = 0; i < layers; ++i) {
    all.push_back({random_matrix(g.m, g.k, g.in, a_transposed, device),
                   random_matrix(g.k, g.n, g.in, b_transposed, device),
                   random_matrix(g.m, g.n, g.out, false, device)});
    if (g.weight) all.back().b.keep_packs();
  }
  const double sweep = seconds_per_call(device, repeats, [&] {
    for (Operands& one : all)
      launch(device, kernel::Matmul{one.a.in(), one.b.in(), one.c.out(), g.write});
  });
  return sweep / static_cast<double>(layers);
}

}  // namespace

TokenBatch random_batch(const GptConfig& config, int64_t samples, Device device) {
  std::mt19937 generator(1);
  std::vector<int32_t> tokens(samples * config.context), targets(tokens.size());
  for (int32_t& x : tokens) x = static_cast<int32_t>(generator() % config.vocabulary);
  for (int32_t& x : targets) x = static_cast<int32_t>(generator() % config.vocabulary);
  TokenBatch batch{Tensor::of<int32_t>({samples, config.context}, tokens, device),
                   Tensor::of<int32_t>({samples, config.context}, targets, device),
                   {}};
  for (int64_t i = 0; i < samples; ++i) batch.indices.push_back(i);
  return batch;
}

std::vector<Gemm> gemms_of(const GptConfig& config, DType dtype, int64_t micro_batch, int64_t chunk,
                           Device inner) {
  Backend spy = *inner.backend;
  std::get<Kernel<kernel::Matmul>>(spy.kernels).workspace = log_matmul;
  std::get<Kernel<kernel::MatmulUnary>>(spy.kernels).workspace = log_unary;
  std::get<Kernel<kernel::MatmulUnaryBackward>>(spy.kernels).workspace = log_unary_backward;
  const Device device{&spy};
  std::vector<Gemm> all;
  const ModeScope dry(Mode::dry);
  Gpt model(config);
  initialize(model, {device, dtype}, Seed{1});
  Cycle cycle(parameters(model));
  const TokenBatch batch = random_batch(config, micro_batch, device);
  log_to = &all;
  const ClosedCycle closed = cycle.run(batch, {micro_batch}, [&](const TokenBatch& micro) {
    return cross_entropy(model.hidden(micro.tokens), model.head(), micro.targets, -100, chunk);
  });
  log_to = nullptr;
  std::vector<Gemm> result;
  for (const Gemm& one : all) {
    auto found = std::ranges::find_if(result, [&](const Gemm& g) { return same(g, one); });
    if (found == result.end())
      result.push_back(one);
    else
      ++found->times;
  }
  return result;
}

void TimedGemm::measure(int repeats) {
  const Gemm& g = gemm_;
  // Large operands are distinct by themselves; a head exists once.
  const int64_t distinct = std::min(layers_, g.times);
  seconds_[0].push_back(
      time_gemm(g, g.a_transposed, g.b_transposed, distinct, repeats, device_));
  seconds_[1].push_back(time_gemm(g, g.weight ? g.a_transposed : !g.a_transposed,
                                  g.weight ? !g.b_transposed : g.b_transposed, distinct, repeats,
                                  device_));
}

double TimedGemm::seconds() const {
  return std::min(median(seconds_[0]), median(seconds_[1])) * static_cast<double>(gemm_.times);
}

}  // namespace accrue::bench
