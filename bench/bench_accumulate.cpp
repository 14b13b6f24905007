// bench_accumulate: what each choice of accumulation costs against f32 sums in the tier `run`.
#include <omp.h>
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "../examples/command_line.h"
#include "accrue/autograd/records.h"
#include "accrue/optim/consumption.h"
#include "floor.h"

using namespace accrue;
using namespace accrue::bench;

namespace {

// One model, optimizer and cycle of their own, so that no choice inherits another's caches.
struct Contender {
  std::string name;
  Gpt model;
  AdamW optimizer;
  int64_t micro_batch;
  std::optional<Cycle> cycle = {};
  std::vector<double> seconds = {};
  int64_t gradient_bytes = 0;
};

Gpt made(const GptConfig& config, DType dtype) {
  Gpt model(config);
  initialize(model, {Device::cpu(), dtype}, Seed{1});
  return model;
}

using Choose = std::function<CycleOptions(AdamW&)>;

struct Field {
  GptConfig config;
  DType dtype;
  std::vector<std::unique_ptr<Contender>> all = {};

  void add(const std::string& name, int64_t micro_batch, double clip, const Choose& choose) {
    Gpt model = made(config, dtype);
    const Parameters trained = parameters(model);
    auto one = std::unique_ptr<Contender>(new Contender{
        name, std::move(model), AdamW(trained, {.lr = 1e-4, .clip = clip}), micro_batch});
    one->cycle.emplace(trained, choose(one->optimizer));
    all.push_back(std::move(one));
  }
};

void add_all(Field& field, int64_t micro) {
  for (const auto& accumulator : accumulators::all())
    field.add(std::string(accumulator->name()), micro, 1, [&](AdamW&) {
      return CycleOptions{.accumulate = {{"*", accumulator}}};
    });
  field.add("split", micro, 1,
            [](AdamW&) { return CycleOptions{.reproducible = Reproducible::split}; });
  field.add("ranks", micro, 1,
            [](AdamW&) { return CycleOptions{.reproducible = Reproducible::ranks}; });
  field.add("noise_scale", micro, 1, [](AdamW&) { return CycleOptions{.noise_scale = true}; });
  field.add("observe", micro, 1, [](AdamW&) { return CycleOptions{.filter = filters::observe()}; });
  field.add("in_backward", micro, 0, [](AdamW& adam) {
    return CycleOptions{.consume = in_backward({&adam}), .skip_non_finite = false};
  });
  field.add("adam_a", micro, 0, [](AdamW& adam) {
    return CycleOptions{.accumulate = {{"*", into_moments(adam)}}, .skip_non_finite = false};
  });
}

// Within each round, so that a slow spell of the machine falls on both.
std::vector<double> ratios(const Contender& one, const Contender& other) {
  std::vector<double> result;
  for (size_t i = 0; i < one.seconds.size(); ++i)
    result.push_back(one.seconds[i] / other.seconds[i]);
  return result;
}

// Records are kept in every cycle, so there is none without them to compare with.
double seconds_of_a_record() {
  constexpr int micro_batches = 1000;
  Records records(Device::cpu());
  const Tensor sum = Tensor::scalar(1, DType::f32, Device::cpu());
  const Tensor count = Tensor::scalar(1, DType::f64, Device::cpu());
  const auto cycle = [&] {
    records.clear();
    for (int i = 0; i < micro_batches; ++i) {
      records.begin(1);
      records.loss(sum, count);
      records.end();
    }
    (void)records.read();
  };
  return seconds_per_call(Device::cpu(), 9, cycle) / micro_batches;
}

/// One cycle of each choice a round, and a round before those that are measured.
void measure(Field& field, int64_t effective, int cycles) {
  const TokenBatch batch = random_batch(field.config, effective, Device::cpu());
  for (int round = 0; round <= cycles; ++round) {
    if (isatty(2)) std::fprintf(stderr, "round %d of %d\r", round, cycles);
    // Each begins a round in its turn, so that no place in it belongs to one alone.
    for (size_t turn = 0; turn < field.all.size(); ++turn) {
      const auto& one = field.all[(turn + static_cast<size_t>(round)) % field.all.size()];
      host_allocator().reset_peak();
      const int64_t before = host_allocator().use().current[static_cast<int>(Tag::gradients)];
      const double start = now();
      one->optimizer.step(one->cycle->run(batch, {one->micro_batch}, [&](const TokenBatch& part) {
        return cross_entropy(one->model.hidden(part.tokens), one->model.head(), part.targets);
      }));
      if (round > 0) one->seconds.push_back(now() - start);
      one->gradient_bytes = host_allocator().use().peak[static_cast<int>(Tag::gradients)] - before;
    }
  }
}

/// What is printed of each choice, as JSON and on stderr.
nlohmann::json rows_of(const Field& field) {
  nlohmann::json rows;
  for (const auto& one : field.all) {
    const double seconds = median(one->seconds);
    const std::vector<double> over = ratios(*one, *field.all[0]);
    const std::vector<double> over_f32 = ratios(*one, *field.all[1]);
    const auto [least, most] = interval_of_median(over);
    const auto [least_f32, most_f32] = interval_of_median(over_f32);
    rows.push_back({{"choice", one->name},
                    {"micro_batch", one->micro_batch},
                    {"seconds_per_cycle", seconds},
                    {"over_baseline", median(over)},
                    {"over_baseline_95", {least, most}},
                    {"over_f32", median(over_f32)},
                    {"over_f32_95", {least_f32, most_f32}},
                    {"transient_gradient_bytes", one->gradient_bytes}});
    std::fprintf(stderr,
                 "%-16s micro-batch %2ld: %.4f s a cycle, %.3f x baseline (%.3f to %.3f), "
                 "%.3f x f32 sums of the same micro-batches (%.3f to %.3f)\n",
                 one->name.c_str(), static_cast<long>(one->micro_batch), seconds, median(over),
                 least, most, median(over_f32), least_f32, most_f32);
  }
  return rows;
}

void run(int argc, char** argv) {
  examples::CommandLine flags(
      "bench_accumulate",
      "Times cycles of every accumulator, tier and consumption against f32 sums, in turns, with "
      "random data. The ranges hold the median with at least 95 % where there are 6 cycles or "
      "more, if their times are independent");
  GptConfig config{6, 6, 384, 256, 65};
  std::string dtype = "f32";
  int64_t micro = 16, effective = 16;
  int cycles = 7;
  std::vector<std::string> only;
  flags.add_positive("--layers", config.layers, "of the model");
  flags.add_positive("--width", config.width, "of the model; a multiple of its 6 heads");
  flags.add_positive("--context", config.context, "tokens of a sequence");
  flags.add("--dtype", dtype, "", {"f32", "bf16"});
  flags.add_positive("--micro-batch", micro, "sequences");
  flags.add_positive("--effective-batch", effective, "sequences");
  flags.add_positive("--cycles", cycles, "measured cycles of each");
  flags.add("--only", only, "names of the choices to time beside the baseline and f32");
  if (!flags.parse(argc, argv)) return;

  Field field{config, dtype == "bf16" ? DType::bf16 : DType::f32};
  field.add("baseline", effective, 1, [](AdamW&) { return CycleOptions{}; });
  add_all(field, micro);
  if (!only.empty())
    std::erase_if(field.all, [&](const auto& one) {
      return one->name != "baseline" && one->name != "f32" &&
             std::ranges::find(only, one->name) == only.end();
    });
  measure(field, effective, cycles);
  const nlohmann::json rows = rows_of(field);
  // Of a micro-batch of one sample, the shortest there is.
  const double record = seconds_of_a_record();
  const double sample = median(field.all[0]->seconds) / static_cast<double>(effective);
  std::fprintf(stderr, "a record: %.2f us a micro-batch, %.1e of one of a single sample\n",
               record * 1e6, record / sample);
  std::printf("%s\n", nlohmann::json{{"dtype", dtype},
                                     {"threads", omp_get_max_threads()},
                                     {"record_microseconds", record * 1e6},
                                     {"record_of_one_sample", record / sample},
                                     {"rows", rows}}
                          .dump()
                          .c_str());
}

}  // namespace

int main(int argc, char** argv) {
  return examples::run_program("bench_accumulate", [&] { run(argc, argv); });
}
