// adam_moments: gradients that go into Adam's moments one by one: what becomes of the variance, and
// how many bytes it saves.
#include <cmath>
#include <functional>

#include "accrue/optim/consumption.h"
#include "command_line.h"
#include "json.h"

using namespace accrue;
using namespace accrue::examples;
using Json = nlohmann::ordered_json;

namespace {

struct Way {
  const char *name, *title;
  std::function<Accumulators(Adam&)> accumulate;
};

const std::vector<Way>& ways() {
  static const std::vector<Way> all{
      {"adam", "Adam",
       [](Adam&) {
         return Accumulators{{"*", accumulators::f32()}};
       }},
      {"adam_a", "AdamA",
       [](Adam& adam) {
         return Accumulators{{"*", into_moments(adam, 0)}};
       }},
      {"batch_size_invariant", "batch-size-invariant Adam", [](Adam& adam) {
         return Accumulators{{"*", into_moments(adam, 1)}};
       }}};
  return all;
}

// ---- what is added to the variance

/// Samples x whose gradient is x itself: loss = x·w.
struct Samples {
  Tensor x;
  std::vector<int64_t> indices;
  std::span<const int64_t> samples() const { return indices; }
  int64_t count() const { return static_cast<int64_t>(indices.size()); }
  Samples slice(int64_t first, int64_t n) const {
    const auto begin = indices.begin() + first;
    return {x.slice(first, n), {begin, begin + n}};
  }
};

struct Weights {
  Parameter w;
  explicit Weights(int64_t n) : w({n, 1}, zeros()) {}
  void visit(Visitor& part) { part("w", w); }
};

/// K gradients of n weights, each N(mean, deviation²). Every other weight has the noise of the one
/// before with the other sign, so that their means are exact.
Samples draw(int64_t k, int64_t n, double mean, double deviation, Seed seed, Device device) {
  std::vector<float> numbers(k * n);
  const RandomKey key{hash_of(static_cast<uint64_t>(seed.value), "adam_moments")};
  for (int64_t i = 0; i < k * n; ++i) {
    const auto bits = key.draw(0, static_cast<uint64_t>(i / 2));
    const double noise = deviation * normal_pair(bits[0], bits[1])[0];
    numbers[i] = static_cast<float>(i % 2 == 0 ? mean + noise : mean - noise);
  }
  Samples result{Tensor::of<float>({k, n}, numbers, device), {}};
  for (int64_t i = 0; i < k; ++i) result.indices.push_back(i);
  return result;
}

/// Means over the weights of what one cycle adds to the moments, over 1−β₁ and 1−β₂.
struct Increments {
  double mean = 0, variance = 0;
};

Increments increments(const Way& way, const Samples& samples) {
  const AdamConfig config;
  Weights model(samples.x.shape()[1]);
  initialize(model, {samples.x.device()}, Seed{1});
  AdamW adam(parameters(model), config);
  Cycle cycle(parameters(model), {.accumulate = way.accumulate(adam), .skip_non_finite = false});
  adam.step(cycle.run(samples, {.samples = 1}, [&](const Samples& micro) {
    return Loss(sum(matmul(micro.x, model.w)), 1);
  }));
  Increments result;
  Visitor read({.tensor = [&](const std::string& name, Tensor& moment) {
    double total = 0;
    for (double one : moment.to_vector()) total += one;
    total /= static_cast<double>(moment.elements());
    (name == "mean.w" ? result.mean : result.variance) = total;
  }});
  adam.visit(read);
  return {result.mean / (1 - config.beta1), result.variance / (1 - config.beta2)};
}

Json compare_increments(int64_t n, Seed seed, Device device) {
  constexpr int64_t k = 8;
  constexpr double mean = 1, deviation = 0.5;
  const Samples samples = draw(k, n, mean, deviation, seed, device);
  constexpr double squared = mean * mean, variance = deviation * deviation;
  const double expected[] = {squared + variance / k, (squared + variance) / k, squared + variance};
  std::printf(
      "Moments after one cycle of %lld micro-gradients of mean %g and deviation %g, %lld weights\n"
      "%-28s%14s%14s%14s\n",
      static_cast<long long>(k), mean, deviation, static_cast<long long>(n), "", "m/(1-beta1)",
      "v/(1-beta2)", "expected");
  Json result;
  for (size_t i = 0; i < ways().size(); ++i) {
    const Increments got = increments(ways()[i], samples);
    std::printf("%-28s%14.3f%14.3f%14.3f\n", ways()[i].title, got.mean, got.variance, expected[i]);
    result[ways()[i].name] = {
        {"mean", got.mean}, {"variance", got.variance}, {"expected_variance", expected[i]}};
  }
  std::printf("\n");
  return result;
}

// ---- what is saved

struct Work {
  const char *name, *title;
  GptConfig config;
  int64_t samples;  // of a micro-batch; a cycle has 8 of these
};

/// The peak of two training cycles.
MemoryUse peak_of(const Work& work, const Way& way, Mode mode, Device device) {
  const ModeScope scope(mode);
  device.backend->memory->reset_peak(mode == Mode::dry);
  Gpt model(work.config);
  initialize(model, {device}, Seed{1});
  const int64_t samples = 8 * work.samples;
  TokenBatch batch{Tensor({samples, work.config.context}, DType::i32, device),
                   Tensor({samples, work.config.context}, DType::i32, device),
                   {}};
  for (Tensor* ids : {&batch.tokens, &batch.targets})
    launch(ids->device(), kernel::Fill{ids->out(), 1});
  for (int64_t i = 0; i < samples; ++i) batch.indices.push_back(i);
  AdamW adam(parameters(model));
  Cycle cycle(parameters(model), {.accumulate = way.accumulate(adam), .skip_non_finite = false});
  for (int step = 0; step < 2; ++step)
    adam.step(cycle.run(batch, {.samples = work.samples}, [&](const TokenBatch& micro) {
      return cross_entropy(model.hidden(micro.tokens), model.head(), micro.targets);
    }));
  return device.backend->memory->use(mode == Mode::dry);
}

Json compare_memory(const Work& work, Device device) {
  Json result;
  std::printf("%s, micro-batches of %lld: peak bytes\n%-28s", work.title,
              static_cast<long long>(work.samples), "");
  for (const auto& tag : tag_names) std::printf("%14s", std::string(tag).c_str());
  std::printf("%15s\n", "together");
  double totals[2];
  for (int i = 0; i < 2; ++i) {  // plain accumulation, AdamA
    const MemoryUse use = peak_of(work, ways()[i], Mode::dry, device);
    std::printf("%-28s", i == 0 ? "accumulation, then Adam" : ways()[i].title);
    for (int64_t bytes : use.peak) std::printf("%14lld", static_cast<long long>(bytes));
    std::printf("%15lld\n", static_cast<long long>(use.peak_total));
    totals[i] = static_cast<double>(use.peak_total);
    result[ways()[i].name] = {{"peak_bytes", bytes_by_tag(use)},
                              {"peak_bytes_total", use.peak_total}};
  }
  result["saved"] = 1 - totals[1] / totals[0];
  std::printf("%-28s%13.1f %%\n\n", "saved", 100 * (1 - totals[1] / totals[0]));
  return result;
}

void run(int64_t weights, Seed seed, Device device, bool check) {
  const GptConfig gpt2{
      .layers = 12, .heads = 12, .width = 768, .context = 1024, .vocabulary = 50257};
  const std::vector<Work> works{
      {"small", "GPT of 4 layers, width 128, context 64", {}, 3},
      {"gpt2_1", "GPT-2 124M, context 1024", gpt2, 1},
      {"gpt2_4", "GPT-2 124M, context 1024", gpt2, 4},
      {"deep",
       "GPT 303M of 24 layers, width 1024, vocabulary 256, context 256",
       {.layers = 24, .heads = 16, .width = 1024, .context = 256, .vocabulary = 256},
       1}};
  const Json moments = compare_increments(weights, seed, device);
  Json memory;
  for (const Work& work : works) memory[work.name] = compare_memory(work, device);
  if (check)
    for (int i = 0; i < 2; ++i)
      memory["small"][ways()[i].name]["measured_peak_bytes_total"] =
          peak_of(works[0], ways()[i], Mode::run, device).peak_total;
  std::printf("%s\n", Json{{"increments", moments}, {"memory", memory}}.dump().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  return run_program("adam_moments", [&] {
    int64_t weights = 1'000'000;
    Seed seed{1};
    bool check = false;
    std::string device;
    CommandLine flags("adam_moments",
                      "Compares Adam with AdamA and batch-size-invariant Adam: what a cycle adds to "
                      "the moments, and the peak of memory, by dry runs.");
    flags.add("--weights", weights, "To average the moments over");
    flags.add("--seed", seed.value);
    flags.add_device(device);
    flags.add_switch("--check", check, "Also train the small model, and report its measured peak");
    if (!flags.parse(argc, argv)) return;
    require_usage(weights >= 2 && weights % 2 == 0 && weights <= 10'000'000,
                  "--weights: expected an even number from 2 to 10000000, got ", weights);
    run(weights, seed, device_named(device), check);
  });
}
