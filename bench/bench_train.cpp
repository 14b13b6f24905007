// bench_train: a training cycle against its floor, in one run. See docs/performance.md.
#include <omp.h>

#include <cstdio>

#include "../examples/program.h"
#include "engine.h"
#include "floor.h"
#include "profile.h"

using namespace accrue;
using namespace accrue::bench;

namespace {

struct Work {
  GptConfig config;
  int64_t useful_vocabulary = 0;  // without what pads it
  Device device = Device::cpu();
  DType dtype = DType::f32;
  std::vector<int64_t> micro_batches;
  int64_t effective = 0, chunk = 0;
  int cycles = 5;
  bool profile = false;
};

struct Trained {
  double seconds;  // of one cycle, median
  MemoryUse memory;
};

// Cycles of both micro-batch sizes take turns, so that a drift of the machine's speed hits both.
std::vector<Trained> train(const Work& work) {
  const Device device = work.profile ? timed_device(work.device) : work.device;
  Allocator& memory = *device.backend->memory;
  Gpt model(work.config);
  initialize(model, {device, work.dtype}, Seed{1});
  AdamW optimizer(parameters(model), {.lr = 1e-4, .weight_decay = 0.1, .clip = 1.0});
  Cycle cycle(parameters(model), {.graphs = device.backend->graphs != nullptr});
  const TokenBatch batch = random_batch(work.config, work.effective, device);
  std::vector<std::vector<double>> seconds(work.micro_batches.size());
  std::vector<Trained> result(work.micro_batches.size());
  for (int round = 0; round <= work.cycles; ++round)
    for (size_t i = 0; i < work.micro_batches.size(); ++i) {
      memory.reset_peak();
      reset_profile();
      const double start = now();
      optimizer.step(cycle.run(batch, {work.micro_batches[i]}, [&](const TokenBatch& micro) {
        return cross_entropy(model.hidden(micro.tokens), model.head(), micro.targets, -100,
                             work.chunk);
      }));
      wait(device);
      if (round > 0) seconds[i].push_back(now() - start);
      if (work.profile && round == work.cycles) {
        std::fprintf(stderr, "micro-batch %ld, the last cycle:\n",
                     static_cast<long>(work.micro_batches[i]));
        print_profile(seconds[i].back());
      }
      result[i].memory = memory.use();
    }
  for (size_t i = 0; i < result.size(); ++i) result[i].seconds = median(seconds[i]);
  return result;
}

int64_t matmul_parameters(const Work& work) {
  const GptConfig& c = work.config;
  return c.layers * 12 * c.width * c.width + work.useful_vocabulary * c.width;
}

// The best rate of a large product beside those of the model: what a GPU reaches at all.
double large_gemm_gflops(const Work& work) {
  constexpr int64_t n = 8192;
  const Gemm square{n, n, n, false, false, false, work.dtype, work.dtype, Write::set};
  return measure({square}, 1, 9, work.device)[0].rate();
}

// Enough operands to be beyond the caches; a GPU's are larger than those and fill its memory
// sooner.
int64_t distinct_layers(const Work& work) {
  return work.device.on_host() ? work.config.layers : std::min<int64_t>(work.config.layers, 4);
}

nlohmann::json compare(const Work& work) {
  const GptConfig& c = work.config;
  const std::vector<Trained> trained = train(work);
  const double flops_per_token =
      6.0 * static_cast<double>(matmul_parameters(work)) + 6.0 * c.layers * c.width * c.context;
  const double tokens = static_cast<double>(work.effective * c.context);
  const double bandwidth = copy_bandwidth(work.device);
  const double large = work.device.on_host() ? 0 : large_gemm_gflops(work);
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
    double gemm_seconds = 0, gemm_flops = 0, best_rate = large;
    for (const Measured& one : measure(gemms_of(c, work.dtype, micro, work.chunk, work.device),
                                       distinct_layers(work), 9, work.device)) {
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
                    {"over_first", trained[i].seconds / trained[0].seconds},
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

struct Words {
  std::string model = "gpt2", dtype = "f32", device = "cpu", f32_products = "native";
  int64_t context = 0, vocabulary = 0;
  bool engine = false;
  int64_t engine_micro = 50;
};

void add_flags(CLI::App& app, Work& work, Words& words) {
  app.add_option("--model", words.model, "gpt2 (124M), width384 or width128")
      ->check(CLI::IsMember({"gpt2", "width384", "width128"}));
  app.add_option("--device", words.device)->check(CLI::IsMember({"cpu", "cuda"}));
  app.add_option("--dtype", words.dtype, "f32, bf16 or f16")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}));
  examples::add_f32_products(app, words.f32_products);
  app.add_option("--micro-batch", work.micro_batches, "one or several, compared in one run")
      ->check(CLI::PositiveNumber);
  app.add_option("--effective-batch", work.effective, "sequences")->check(CLI::PositiveNumber);
  app.add_option("--context", words.context, "tokens (gpt2: 64, on a GPU 1024)")
      ->check(CLI::PositiveNumber);
  app.add_option("--vocabulary", words.vocabulary,
                 "rows of the head, padding included (gpt2: 50257, on a GPU 50304)")
      ->check(CLI::PositiveNumber);
  app.add_option("--chunk", work.chunk, "rows of logits at a time (256; on a GPU all)")
      ->check(CLI::PositiveNumber);
  app.add_option("--cycles", work.cycles, "measured cycles of each size")
      ->check(CLI::PositiveNumber);
  app.add_flag("--profile", work.profile, "seconds of each kernel in the last cycle");
  app.add_flag("--engine", words.engine, "only the engine: kernels that do nothing");
  app.add_option("--engine-micro-batches", words.engine_micro,
                 "micro-batches of the engine's cycle");
}

// What the command line left open. The sizes of gpt2 are those that fill a GPU, or two CPU cores.
void complete(Work& work, const Words& words) {
  work.device = examples::device_named(words.device);
  const bool gpu = !work.device.on_host();
  examples::choose_f32_products(words.f32_products, work.device);
  using Sizes = std::vector<int64_t>;
  Sizes micro_batches;
  int64_t effective;
  if (words.model == "gpt2") {
    work.config = {12, 12, 768, gpu ? 1024 : 64, 50257};
    effective = gpu ? 512 : 32;
    micro_batches = gpu ? Sizes{64, 32, 8, 2} : Sizes{4};
  } else if (words.model == "width384") {
    work.config = {6, 6, 384, 256, 65};
    effective = 16;
    micro_batches = {16, 1};
  } else {
    work.config = {4, 4, 128, 64, 65};
    effective = 12;
    micro_batches = {12, 1};
  }
  work.useful_vocabulary = work.config.vocabulary;
  if (gpu && words.model == "gpt2") work.config.vocabulary = 50304;
  if (words.vocabulary > 0) {
    work.config.vocabulary = words.vocabulary;
    work.useful_vocabulary = std::min(work.useful_vocabulary, words.vocabulary);
  }
  if (words.context > 0) work.config.context = words.context;
  if (work.effective == 0) work.effective = effective;
  if (work.micro_batches.empty()) work.micro_batches = micro_batches;
  for (const int64_t micro : work.micro_batches)
    examples::require_usage(micro <= work.effective,
                            "--micro-batch: expected at most the effective batch of ",
                            work.effective, ", got ", micro);
  const int64_t rows = *std::ranges::max_element(work.micro_batches) * work.config.context;
  if (work.chunk == 0) work.chunk = gpu ? rows : 256;
  work.dtype = words.dtype == "bf16" ? DType::bf16 : words.dtype == "f16" ? DType::f16 : DType::f32;
}

nlohmann::json result_of(Work& work, const Words& words) {
  if (words.engine) {
    const EngineCost cost = engine_cost(words.engine_micro);
    return {{"operations", cost.operations}, {"microseconds_per_operation", cost.microseconds}};
  }
  complete(work, words);
  nlohmann::json rows = compare(work);
  return {{"threads", omp_get_max_threads()},
          {"device", words.device},
          {"model", words.model},
          {"dtype", words.dtype},
          {"f32_products", words.f32_products},
          {"context", work.config.context},
          {"vocabulary", work.config.vocabulary},
          {"effective_batch", work.effective},
          {"chunk", work.chunk},
          {"rows", std::move(rows)}};
}

}  // namespace

int main(int argc, char** argv) {
  return examples::run_program("bench_train", [&] {
    CLI::App app{"Times training cycles against their floor, with random data"};
    Work work;
    Words words;
    add_flags(app, work, words);
    if (!examples::parse(app, argc, argv)) return;
    std::printf("%s\n", result_of(work, words).dump().c_str());
  });
}
