// one_cycle: one cycle of one model, computed with 1, 2, 4 and 8 micro-batches, side by side.
#include <omp.h>

#include <chrono>
#include <cmath>
#include <fstream>

#include "command_line.h"
#include "json.h"

using namespace accrue;
using namespace accrue::examples;
using Json = nlohmann::ordered_json;

namespace {

struct Options {
  std::string data, log, accumulate = "f32", device;
  GptConfig model;
  int64_t effective_batch = 24, threads = omp_get_max_threads();
  Seed seed{1};
};

/// One cycle, with everything that the table shows of it.
struct Column {
  int64_t micro_batches = 0, samples = 0;  // samples of a micro-batch
  double loss = 0, norm = 0, difference = 0, seconds = INFINITY;
  MemoryUse memory = {};
  std::vector<std::vector<double>> gradients;  // mean gradients, by parameter
};

Column compute(const Gpt& model, const Options& o, const TokenBatch& batch, int64_t samples) {
  constexpr int repetitions = 3;  // the first one warms up; the fastest counts
  const Parameters all = parameters(model);
  Allocator& memory = *batch.tokens.device().backend->memory;
  Column column;
  column.samples = samples;
  for (int i = 0; i < repetitions; ++i) {
    memory.reset_peak();
    Cycle cycle(all, {.accumulate = accumulators::parse(o.accumulate, {}, o.seed)});
    const auto began = std::chrono::steady_clock::now();
    const ClosedCycle closed = cycle.run(batch, {.samples = samples}, [&](const TokenBatch& micro) {
      return cross_entropy(model(micro.tokens), micro.targets);
    });
    const double loss = closed.mean_loss();  // waits
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    column.seconds = std::min(column.seconds, took.count());
    column.memory = memory.use();
    if (i + 1 < repetitions) continue;
    column.micro_batches = closed.micro_batches().value;
    column.loss = loss;
    double squares = 0;
    for (const auto& buffer : closed.buffers()) {
      std::vector<double>& gradient = column.gradients.emplace_back(
          buffer->touched() ? buffer->state("sum").to_vector()
                            : std::vector<double>(buffer->parameter_state()->shape.elements()));
      for (double& one : gradient) one /= closed.count(), squares += one * one;
    }
    column.norm = std::sqrt(squares);
  }
  return column;
}

/// max |a − b| / max |b| over all elements of all gradients.
double largest_difference(const Column& a, const Column& b) {
  double difference = 0, largest = 0;
  for (size_t p = 0; p < b.gradients.size(); ++p)
    for (size_t i = 0; i < b.gradients[p].size(); ++i) {
      difference = std::max(difference, std::abs(a.gradients[p][i] - b.gradients[p][i]));
      largest = std::max(largest, std::abs(b.gradients[p][i]));
    }
  return largest > 0 ? difference / largest : 0;
}

template <class Value>
void print_row(const char* name, const char* format, const std::vector<Column>& columns,
               Value value) {
  std::printf("%-30s", name);
  for (const Column& column : columns) std::printf(format, value(column));
  std::printf("\n");
}

void print(const std::vector<Column>& columns) {
  using Long = long long;
  print_row("micro-batches (K)", "%14lld", columns, [](auto& c) { return Long{c.micro_batches}; });
  print_row("sequences in each", "%14lld", columns, [](auto& c) { return Long{c.samples}; });
  print_row("loss", "%14.8f", columns, [](auto& c) { return c.loss; });
  print_row("gradient norm", "%14.8f", columns, [](auto& c) { return c.norm; });
  print_row("largest gradient difference", "%14.1e", columns, [](auto& c) { return c.difference; });
  for (int tag = 0; tag < tag_count; ++tag)
    print_row(("peak bytes, " + std::string(tag_names[tag])).c_str(), "%14lld", columns,
              [tag](auto& c) { return Long{c.memory.peak[tag]}; });
  print_row("milliseconds", "%14.1f", columns, [](auto& c) { return 1000 * c.seconds; });
  const Column &first = columns.front(), &last = columns.back();
  constexpr int a = static_cast<int>(Tag::activations), w = static_cast<int>(Tag::workspace);
  std::printf(
      "\nThe same step each time: %lld micro-batches of %lld give the gradient of one batch of "
      "%lld up to rounding (%.0e of its largest element),\nand need %.1f times less memory for "
      "activations and workspace.\n",
      Long{last.micro_batches}, Long{last.samples}, Long{first.samples}, last.difference,
      static_cast<double>(first.memory.peak[a] + first.memory.peak[w]) /
          static_cast<double>(last.memory.peak[a] + last.memory.peak[w]));
}

Json to_json(const Column& c) {
  return {{"micro_batches", c.micro_batches},
          {"micro_batch", c.samples},
          {"loss", c.loss},
          {"gradient_norm", c.norm},
          {"largest_difference", c.difference},
          {"seconds", c.seconds},
          {"peak_bytes", bytes_by_tag(c.memory)}};
}

void run(Options o) {
  omp_set_num_threads(static_cast<int>(o.threads));
  const auto [tokens, tokenizer] = Tokens::from_file(o.data, TokenizerKind::character);
  o.model.vocabulary = tokenizer.vocabulary();
  const Device device = device_named(o.device);
  TokenLoader loader(
      tokens,
      {.context = o.model.context, .batch = o.effective_batch, .seed = o.seed, .device = device});
  const TokenBatch batch = loader.next();
  std::ofstream log;
  if (!o.log.empty()) log.open(o.log);
  if (log.fail()) fail_log(o.log);
  int log_error = 0;
  std::vector<Column> columns;
  Json cycles = Json::array();
  int64_t elements = 0;
  for (int64_t k : {1, 2, 4, 8}) {
    if (isatty(STDERR_FILENO)) std::fprintf(stderr, "\r\033[KK = %lld", static_cast<long long>(k));
    Gpt model(o.model);  // anew, without the copies that another K kept
    initialize(model, {device}, o.seed);
    const AdamW optimizer(parameters(model));  // not stepped: its memory is part of the picture
    elements = parameters(model).elements();
    columns.push_back(compute(model, o, batch, o.effective_batch / k));
    columns.back().difference = largest_difference(columns.back(), columns.front());
    cycles.push_back(to_json(columns.back()));
    if (o.log.empty() || log_error != 0) continue;
    if (!(log << cycles.back().dump() << std::endl)) log_error = errno;
  }
  if (isatty(STDERR_FILENO)) std::fprintf(stderr, "\r\033[K");
  print(columns);
  std::printf(
      "%s\n",
      Json{{"effective_batch", o.effective_batch}, {"parameters", elements}, {"cycles", cycles}}
          .dump()
          .c_str());
  if (!log) fail_log(o.log, log_error);
}

}  // namespace

int main(int argc, char** argv) {
  return run_program("one_cycle", [&] {
    Options o;
    CommandLine flags("one_cycle", "Computes one cycle with 1, 2, 4 and 8 micro-batches.");
    flags.add_required("--data", o.data, "A text file");
    flags.add("--layers", o.model.layers);
    flags.add("--heads", o.model.heads);
    flags.add("--width", o.model.width);
    flags.add("--context", o.model.context);
    flags.add("--effective-batch", o.effective_batch, "Sequences");
    flags.add("--accumulate", o.accumulate, "f32, bf16 or kahan");
    flags.add("--seed", o.seed.value);
    flags.add_device(o.device);
    flags.add("--threads", o.threads, "By default all cores, or OMP_NUM_THREADS");
    flags.add("--log", o.log, "JSON lines, one per K");
    if (!flags.parse(argc, argv)) return;
    require_usage(o.effective_batch > 0 && o.effective_batch % 8 == 0,
                  "--effective-batch: expected a multiple of 8, got ", o.effective_batch);
    require_usage(o.threads >= 1 && o.threads <= 1024, "--threads: expected 1 to 1024, got ",
                  o.threads);
    require_distinct({{"--data", o.data}, {"--log", o.log}});
    as_usage("", [&] { o.model.check(); });
    as_usage("--accumulate: ", [&] { accumulators::parse(o.accumulate); });
    run(o);
  });
}
