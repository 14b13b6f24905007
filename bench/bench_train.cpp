// bench_train: a training cycle against its floor, in one run. See docs/performance.md.
#include <omp.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "../examples/command_line.h"
#include "../examples/json.h"
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
  bool profile = false, turns = false;
};

// What is known of one micro-batch size.
struct Trained {
  int64_t micro_batch;
  std::vector<TimedGemm> gemms;
  std::vector<double> cycles = {};  // seconds
  MemoryUse memory = {};
  GraphUse graphs = {};  // of the measured cycles

  double seconds() const { return median(cycles); }
};

// Enough operands to be beyond the caches; a GPU's are larger than those and fill its memory
// sooner.
int64_t distinct_layers(const Work& work) {
  return work.device.on_host() ? work.config.layers : std::min<int64_t>(work.config.layers, 4);
}

// Says that this program stands still until it reads a line, so that another may run meanwhile.
void await_turn() {
  std::printf("ready\n");
  std::fflush(stdout);
  for (int c = std::getchar(); c != '\n'; c = std::getchar())
    if (c == EOF) throw Failure("--turns: expected a line for each cycle, got the input's end");
}

std::vector<Trained> untrained(const Work& work) {
  std::vector<Trained> result;
  for (const int64_t micro : work.micro_batches) {
    result.push_back({micro, {}});
    for (const Gemm& one : gemms_of(work.config, work.dtype, micro, work.chunk, work.device))
      result.back().gemms.emplace_back(one, distinct_layers(work), work.device);
  }
  return result;
}

void add(GraphUse& to, const GraphUse& before, const GraphUse& after) {
  to.replayed += after.replayed - before.replayed;
  to.eager += after.eager - before.eager;
  if (after.eager > before.eager) to.why_eager = after.why_eager;
}

// Cycles of all micro-batch sizes and the products alone take turns, so that a drift of the
// machine's speed, or its neighbours', hits all of them.
std::vector<Trained> train(const Work& work) {
  const Device device = work.profile ? timed_device(work.device) : work.device;
  Allocator& memory = *device.backend->memory;
  Gpt model(work.config);
  initialize(model, {device, work.dtype}, Seed{1});
  AdamW optimizer(parameters(model), {.lr = 1e-4, .weight_decay = 0.1, .clip = 1.0});
  Cycle cycle(parameters(model), {.graphs = device.backend->graphs != nullptr});
  const TokenBatch batch = random_batch(work.config, work.effective, device);
  std::vector<Trained> all = untrained(work);
  for (int round = 0; round <= work.cycles; ++round)
    for (Trained& one : all) {
      memory.reset_peak();
      reset_profile();
      if (work.turns) await_turn();
      const GraphUse before = cycle.graphs();
      const double start = now();
      optimizer.step(cycle.run(batch, {one.micro_batch}, [&](const TokenBatch& micro) {
        return cross_entropy(model.hidden(micro.tokens), model.head(), micro.targets, -100,
                             work.chunk);
      }));
      wait(device);
      const double seconds = now() - start;
      if (round == 0) one.memory = memory.use();  // before there are products' operands
      if (work.profile && round == work.cycles) {
        std::fprintf(stderr, "micro-batch %ld, the last cycle:\n",
                     static_cast<long>(one.micro_batch));
        print_profile(seconds);
      }
      if (round == 0) continue;  // finds its caches empty
      one.cycles.push_back(seconds);
      add(one.graphs, before, cycle.graphs());
      for (TimedGemm& gemm : one.gemms) gemm.measure(work.device.on_host() ? 1 : 3);
    }
  return all;
}

int64_t matmul_parameters(const Work& work) {
  const GptConfig& c = work.config;
  return c.layers * 12 * c.width * c.width + work.useful_vocabulary * c.width;
}

// The best rate of a large product beside those of the model: what a GPU reaches at all.
double large_gemm_gflops(const Work& work) {
  constexpr int64_t n = 8192;
  const Gemm square{n, n, n, false, false, false, work.dtype, work.dtype, Write::set};
  TimedGemm timed(square, 1, work.device);
  timed.measure(9);
  return timed.rate();
}

// AdamW's bytes at copy bandwidth: it reads sum, weight and two moments and writes three; copies in
// 16 bits are written as well.
double optimizer_seconds(const Work& work) {
  Gpt counted(work.config);
  double elements = 0;
  Visitor count({.parameter = [&](const std::string&, Parameter& p) {
    elements += static_cast<double>(p.shape().elements());
  }});
  counted.visit(count);
  return elements * (28 + (work.dtype == DType::f32 ? 0 : 2)) / copy_bandwidth(work.device);
}

void print(const Gemm& gemm, double rate) {
  std::fprintf(stderr, "  gemm %6ld x %6ld x %6ld %s%s %s x%-3ld %8.1f GFLOP/s\n",
               static_cast<long>(gemm.m), static_cast<long>(gemm.n), static_cast<long>(gemm.k),
               gemm.a_transposed ? "T" : "N", gemm.b_transposed ? "T" : "N",
               gemm.write == Write::set ? "set" : "add", static_cast<long>(gemm.times), rate);
}

// What all sizes of micro-batch share.
struct Shared {
  double optimizer_seconds, large_gemm_gflops, first_seconds;
};

nlohmann::json row_of(const Work& work, const Trained& one, const Shared& shared) {
  const GptConfig& c = work.config;
  double gemm_seconds = 0, gemm_flops = 0, best_rate = shared.large_gemm_gflops;
  for (const TimedGemm& timed : one.gemms) {
    print(timed.gemm(), timed.rate());
    gemm_seconds += timed.seconds();
    gemm_flops += timed.gemm().flops();
    best_rate = std::max(best_rate, timed.rate());
  }
  const int64_t micro = one.micro_batch;
  const double flops_per_token =
      6.0 * static_cast<double>(matmul_parameters(work)) + 6.0 * c.layers * c.width * c.context;
  const double tokens = static_cast<double>(work.effective * c.context);
  const double k = static_cast<double>((work.effective + micro - 1) / micro);
  const double floor = gemm_seconds * k + shared.optimizer_seconds;
  const double seconds = one.seconds(), rate = flops_per_token * tokens / seconds * 1e-9;
  std::fprintf(stderr,
               "micro-batch %ld: %.4f s a cycle, %.0f tokens/s, %.0f GFLOP/s, %.3f x floor, "
               "%.2f of the best GEMM (%.0f)\n",
               static_cast<long>(micro), seconds, tokens / seconds, rate, seconds / floor,
               rate / best_rate, best_rate);
  nlohmann::json row{{"micro_batch", micro},
                     {"seconds_per_cycle", seconds},
                     {"seconds_by_cycle", one.cycles},
                     {"over_first", seconds / shared.first_seconds},
                     {"tokens_per_second", tokens / seconds},
                     {"gflops", rate},
                     {"floor_seconds", floor},
                     {"over_floor", seconds / floor},
                     {"gemm_gflops", gemm_flops / gemm_seconds * 1e-9},
                     {"best_gemm_gflops", best_rate},
                     {"of_best_gemm", rate / best_rate},
                     {"optimizer_floor_seconds", shared.optimizer_seconds},
                     {"peak_bytes", examples::bytes_by_tag(one.memory)}};
  if (work.device.backend->graphs)
    row.update({{"replayed", one.graphs.replayed},
                {"eager", one.graphs.eager},
                {"why_eager", one.graphs.why_eager}});
  return row;
}

nlohmann::json compare(const Work& work) {
  const std::vector<Trained> trained = train(work);
  const Shared shared{optimizer_seconds(work), work.device.on_host() ? 0 : large_gemm_gflops(work),
                      trained[0].seconds()};
  nlohmann::json rows;
  for (const Trained& one : trained) rows.push_back(row_of(work, one, shared));
  return rows;
}

struct Words {
  std::string model = "gpt2", dtype = "f32", device = "cpu", f32_products = "native";
  int64_t context = 0, vocabulary = 0;
  bool engine = false;
  int64_t engine_micro = 50;
};

void add_flags(examples::CommandLine& flags, Work& work, Words& words) {
  flags.add("--model", words.model, "gpt2 is 124M", {"gpt2", "width384", "width128"});
  flags.add("--device", words.device, "", {"cpu", "cuda"});
  flags.add("--dtype", words.dtype, "", {"f32", "bf16", "f16"});
  flags.add_f32_products(words.f32_products);
  flags.add_positive("--micro-batch", work.micro_batches, "one or several, compared in one run");
  flags.add_positive("--effective-batch", work.effective, "sequences");
  flags.add_positive("--context", words.context, "tokens (gpt2: 64, on a GPU 1024)");
  flags.add_positive("--vocabulary", words.vocabulary,
                     "rows of the head, padding included (gpt2: 50257, on a GPU 50304)");
  flags.add_positive("--chunk", work.chunk, "rows of logits at a time (256; on a GPU all)");
  flags.add_positive("--cycles", work.cycles, "measured cycles of each size");
  flags.add_switch("--profile", work.profile, "seconds of each kernel in the last cycle");
  flags.add_switch("--turns", work.turns,
                   "say `ready` and wait for a line before each cycle (bench/peers/compare.py)");
  flags.add_switch("--engine", words.engine, "only the engine: kernels that do nothing");
  flags.add_positive("--engine-micro-batches", words.engine_micro,
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
    examples::CommandLine flags("bench_train",
                                "Times training cycles against their floor, with random data");
    Work work;
    Words words;
    add_flags(flags, work, words);
    if (!flags.parse(argc, argv)) return;
    std::printf("%s\n", result_of(work, words).dump().c_str());
  });
}
