#include "floor.h"

#include <algorithm>
#include <chrono>
#include <cstring>
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

Tensor random_tensor(const Shape& shape, DType dtype, bool transposed) {
  static std::mt19937 generator(7);
  Shape stored = shape;
  if (transposed) std::swap(stored[0], stored[1]);
  std::vector<float> numbers(shape.elements());
  for (float& x : numbers) x = static_cast<float>(static_cast<int32_t>(generator())) * 0x1p-32f;
  const Tensor f32 = Tensor::of<float>(stored, numbers, Device::cpu());
  Tensor result(stored, dtype, Device::cpu());
  launch(Device::cpu(), kernel::Copy{f32.in(), result.out(), Write::set});
  return transposed ? result.transpose(0, 1) : result;
}

// Seconds for one product, the median over sweeps through operands of `layers` distinct layers.
double time_gemm(const Gemm& g, bool a_transposed, bool b_transposed, int64_t layers, int repeats) {
  struct Operands {
    Tensor a, b, c;
  };
  std::vector<Operands> all;
  for (int64_t i = 0; i < layers; ++i) {
    all.push_back({random_tensor({g.m, g.k}, g.in, a_transposed),
                   random_tensor({g.k, g.n}, g.in, b_transposed),
                   random_tensor({g.m, g.n}, g.out, false)});
    if (g.weight && g.in != DType::f32) all.back().b.keep_packs();
  }
  std::vector<double> seconds;
  for (int r = 0; r <= repeats; ++r) {
    const double start = now();
    for (Operands& one : all)
      launch(Device::cpu(), kernel::Matmul{one.a.in(), one.b.in(), one.c.out(), g.write});
    if (r > 0) seconds.push_back((now() - start) / static_cast<double>(layers));
  }
  return median(seconds);
}

}  // namespace

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

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

std::vector<Gemm> gemms_of(const GptConfig& config, DType dtype, int64_t micro_batch) {
  static Backend spy = *Device::cpu().backend;
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
    return cross_entropy(model.hidden(micro.tokens), model.head(), micro.targets);
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

std::vector<Measured> measure(const std::vector<Gemm>& gemms, int64_t layers, int repeats) {
  std::vector<Measured> result;
  for (const Gemm& g : gemms) {
    // Large operands are distinct by themselves; a head exists once.
    const int64_t distinct = std::min(layers, g.times);
    double best = time_gemm(g, g.a_transposed, g.b_transposed, distinct, repeats);
    if (g.weight)
      best = std::min(best, time_gemm(g, g.a_transposed, !g.b_transposed, distinct, repeats));
    else
      best = std::min(best, time_gemm(g, !g.a_transposed, g.b_transposed, distinct, repeats));
    result.push_back({g, best * static_cast<double>(g.times)});
  }
  return result;
}

double copy_bandwidth() {
  constexpr size_t bytes = size_t{1} << 30;
  std::vector<char> from(bytes, 1), to(bytes, 2);
  std::vector<double> rates;
  for (int r = 0; r < 5; ++r) {
    const double start = now();
#pragma omp parallel for
    for (int part = 0; part < 64; ++part)
      std::memcpy(&to[part * (bytes / 64)], &from[part * (bytes / 64)], bytes / 64);
    rates.push_back(2.0 * bytes / (now() - start));
  }
  return median(rates);
}

}  // namespace accrue::bench
