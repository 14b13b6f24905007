// bench_train: a training cycle against its floor, in one run. See docs/performance.md.
#include <omp.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "engine.h"
#include "floor.h"
#include "profile.h"

using namespace accrue;
using namespace accrue::bench;

namespace {

struct Work {
  GptConfig config;
  DType dtype = DType::f32;
  std::vector<int64_t> micro_batches;
  int64_t effective = 0;
  int cycles = 5;
  bool profile = false;
};

struct Trained {
  double seconds;  // of one cycle, median
  MemoryUse memory;
};

// Cycles of both micro-batch sizes take turns, so that a drift of the machine's speed hits both.
std::vector<Trained> train(const Work& work) {
  const Device device = work.profile ? timed_device() : Device::cpu();
  Gpt model(work.config);
  initialize(model, {device, work.dtype}, Seed{1});
  AdamW optimizer(parameters(model), {.lr = 1e-4, .weight_decay = 0.1, .clip = 1.0});
  Cycle cycle(parameters(model));
  const TokenBatch batch = random_batch(work.config, work.effective, device);
  std::vector<std::vector<double>> seconds(work.micro_batches.size());
  std::vector<Trained> result(work.micro_batches.size());
  for (int round = 0; round <= work.cycles; ++round)
    for (size_t i = 0; i < work.micro_batches.size(); ++i) {
      host_allocator().reset_peak();
      reset_profile();
      const double start = now();
      optimizer.step(cycle.run(batch, {work.micro_batches[i]}, [&](const TokenBatch& micro) {
        return cross_entropy(model.hidden(micro.tokens), model.head(), micro.targets);
      }));
      if (round > 0) seconds[i].push_back(now() - start);
      if (work.profile && round == work.cycles) {
        std::fprintf(stderr, "micro-batch %ld, the last cycle:\n",
                     static_cast<long>(work.micro_batches[i]));
        print_profile(seconds[i].back());
      }
      result[i].memory = host_allocator().use();
    }
  for (size_t i = 0; i < result.size(); ++i) result[i].seconds = median(seconds[i]);
  return result;
}

int64_t matmul_parameters(const GptConfig& c) {
  return c.layers * 12 * c.width * c.width + c.vocabulary * c.width;
}

nlohmann::json compare(const Work& work) {
  const GptConfig& c = work.config;
  const std::vector<Trained> trained = train(work);
  const double flops_per_token =
      6.0 * static_cast<double>(matmul_parameters(c)) + 6.0 * c.layers * c.width * c.context;
  const double tokens = static_cast<double>(work.effective * c.context);
  const double bandwidth = copy_bandwidth();
  Gpt counted(c);
  double elements = 0;
  Visitor count({.parameter = [&](const std::string&, Parameter& p) {
    elements += static_cast<double>(p.shape().elements());
  }});
  counted.visit(count);
  // AdamW reads sum, weight and two moments and writes three; copies in 16 bits are written as
  // well.
  const double optimizer = elements * (28 + (work.dtype == DType::f32 ? 0 : 2)) / bandwidth;

  nlohmann::json rows;
  for (size_t i = 0; i < trained.size(); ++i) {
    const int64_t micro = work.micro_batches[i];
    double gemm_seconds = 0, gemm_flops = 0, best_rate = 0;
    for (const Measured& one : measure(gemms_of(c, work.dtype, micro), c.layers, 9)) {
      std::fprintf(stderr, "  gemm %6ld x %6ld x %6ld %s%s %s x%-3ld %8.1f GFLOP/s\n",
                   static_cast<long>(one.gemm.m), static_cast<long>(one.gemm.n),
                   static_cast<long>(one.gemm.k), one.gemm.a_transposed ? "T" : "N",
                   one.gemm.b_transposed ? "T" : "N", one.gemm.write == Write::set ? "set" : "add",
                   static_cast<long>(one.gemm.times), one.rate());
      gemm_seconds += one.seconds;
      gemm_flops += one.gemm.flops();
      best_rate = std::max(best_rate, one.rate());
    }
    const double k = static_cast<double>((work.effective + micro - 1) / micro);
    const double floor = gemm_seconds * k + optimizer;
    const double rate = flops_per_token * tokens / trained[i].seconds * 1e-9;
    nlohmann::json bytes;
    for (int t = 0; t < tag_count; ++t)
      bytes[std::string(tag_names[t])] = trained[i].memory.peak[t];
    rows.push_back({{"micro_batch", micro},
                    {"seconds_per_cycle", trained[i].seconds},
                    {"tokens_per_second", tokens / trained[i].seconds},
                    {"gflops", rate},
                    {"floor_seconds", floor},
                    {"over_floor", trained[i].seconds / floor},
                    {"gemm_gflops", gemm_flops / gemm_seconds * 1e-9},
                    {"best_gemm_gflops", best_rate},
                    {"of_best_gemm", rate / best_rate},
                    {"optimizer_floor_seconds", optimizer},
                    {"peak_bytes", bytes}});
    std::fprintf(stderr,
                 "micro-batch %ld: %.4f s a cycle, %.0f tokens/s, %.0f GFLOP/s, %.3f x floor, "
                 "%.2f of the best GEMM (%.0f)\n",
                 static_cast<long>(micro), trained[i].seconds, tokens / trained[i].seconds, rate,
                 trained[i].seconds / floor, rate / best_rate, best_rate);
  }
  return rows;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Times training cycles against their floor, with random data"};
  Work work;
  std::string dtype = "f32", preset = "gpt2";
  bool engine = false;
  int64_t engine_micro = 50;
  app.add_option("--model", preset, "gpt2 (124M), width384 or width128")
      ->check(CLI::IsMember({"gpt2", "width384", "width128"}));
  app.add_option("--dtype", dtype, "f32, bf16 or f16")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}));
  app.add_option("--micro-batch", work.micro_batches, "one or several, compared in one run");
  app.add_option("--effective-batch", work.effective, "sequences");
  app.add_option("--cycles", work.cycles, "measured cycles of each size")
      ->check(CLI::PositiveNumber);
  app.add_flag("--profile", work.profile, "seconds of each kernel in the last cycle");
  app.add_flag("--engine", engine, "only the engine: kernels that do nothing");
  app.add_option("--engine-micro-batches", engine_micro, "micro-batches of the engine's cycle");
  CLI11_PARSE(app, argc, argv);

  nlohmann::json result{{"threads", omp_get_max_threads()}, {"model", preset}, {"dtype", dtype}};
  if (engine) {
    const EngineCost cost = engine_cost(engine_micro);
    result = {{"operations", cost.operations}, {"microseconds_per_operation", cost.microseconds}};
  } else {
    if (preset == "gpt2")
      work.config = {12, 12, 768, 64, 50257};
    else if (preset == "width384")
      work.config = {6, 6, 384, 256, 65};
    else
      work.config = {4, 4, 128, 64, 65};
    if (work.effective == 0)
      work.effective = preset == "gpt2" ? 32 : preset == "width384" ? 16 : 12;
    if (work.micro_batches.empty())
      work.micro_batches = preset == "gpt2"       ? std::vector<int64_t>{4}
                           : preset == "width384" ? std::vector<int64_t>{16, 1}
                                                  : std::vector<int64_t>{12, 1};
    work.dtype = dtype == "bf16" ? DType::bf16 : dtype == "f16" ? DType::f16 : DType::f32;
    result["rows"] = compare(work);
  }
  std::printf("%s\n", result.dump().c_str());
  return 0;
}
