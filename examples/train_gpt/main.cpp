// train_gpt: trains a GPT on a text file by native gradient accumulation.
#include <omp.h>

#include <algorithm>

#include "../program.h"
#include "progress.h"
#include "training.h"

using namespace accrue;
using namespace accrue::examples;
using Json = nlohmann::ordered_json;

namespace {

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// The same program in a mode in which tensors have sizes but no memory: what it counts is what a
// run will use, by construction.
void dry_run(const Options& options, const Data& data) {
  const ModeScope dry(Mode::dry);
  Training training(options, data);
  training.step();
  training.validate();
  const MemoryUse use = host_allocator().use(/*dry=*/true);
  for (int tag = 0; tag < tag_count; ++tag)
    std::printf("%-12s %15lld bytes at most\n", std::string(tag_names[tag]).c_str(),
                static_cast<long long>(use.peak[tag]));
  std::printf("%-12s %15lld bytes at most at one moment\n", "together",
              static_cast<long long>(use.peak_total));
  std::printf("%s\n", Json{{"dry_run", true},
                           {"parameters", parameters(training.model).elements()},
                           {"peak_bytes", bytes_by_tag(use)},
                           {"peak_bytes_total", use.peak_total}}
                          .dump()
                          .c_str());
}

struct Outcome {
  Json train_loss, val_loss;  // null until there is one
  std::vector<double> tokens_per_second;
};

// Steps, validations and checkpoints up to --steps.
Outcome train(Training& training) {
  const Options& o = training.options;
  const int64_t first = training.cycle.step().value;
  const auto tokens = static_cast<double>(o.effective_batch * o.model.context);
  Log log(o.log, first);
  ProgressLine progress(first, o.steps);
  Outcome outcome;
  for (int64_t step = first + 1; step <= o.steps; ++step) {
    const double began = seconds_now();
    const StepReport report = training.step();
    const double rate = tokens / (seconds_now() - began);
    outcome.tokens_per_second.push_back(rate);
    outcome.train_loss = report.mean_loss;
    Json line{{"step", step},
              {"loss", report.mean_loss},
              {"gradient_norm", report.gradient_norm},
              {"lr", report.learning_rate},
              {"tokens_per_second", rate}};
    progress.show(step, report.mean_loss, rate);
    const bool last = step == o.steps;
    if (last || step % o.eval_interval == 0) {
      outcome.val_loss = line["val_loss"] = training.validate();
      progress.clear();
      std::printf("step %lld: training loss %.4f, validation loss %.4f\n",
                  static_cast<long long>(step), report.mean_loss, outcome.val_loss.get<double>());
      std::fflush(stdout);
    }
    log.write(line);
    if (!o.checkpoint.empty() && (last || step % o.checkpoint_interval == 0)) training.save();
  }
  if (outcome.val_loss.is_null()) outcome.val_loss = training.validate();  // nothing was left to do
  return outcome;
}

void run(const Options& options) {
  const double began = seconds_now();
  omp_set_num_threads(static_cast<int>(options.threads));
  const Data data = read_data(options);
  if (options.dry_run) return dry_run(options, data);
  Training training(options, data);
  if (options.resume) {
    training.resume();
    for (const std::string& warning : training.checkpoint.warnings())
      std::fprintf(stderr, "train_gpt: %s; the checkpoint before it is used\n", warning.c_str());
  } else if (!options.checkpoint.empty()) {
    require(!training.checkpoint.exists(), "[checkpoint] expected no checkpoints in '",
            options.checkpoint, "', got some; try --resume, or another folder");
    training.checkpoint.make_folder();
  }
  const Outcome outcome = train(training);
  if (options.sample > 0) std::printf("\n%s\n\n", training.sample_text().c_str());
  std::printf("%s\n", Json{{"val_loss", outcome.val_loss},
                           {"best_val_loss", training.best.item()},
                           {"train_loss", outcome.train_loss},
                           {"steps", training.cycle.step().value},
                           {"tokens_per_second", median(outcome.tokens_per_second)},
                           {"seconds", seconds_now() - began},
                           {"parameters", parameters(training.model).elements()},
                           {"peak_bytes", bytes_by_tag(host_allocator().use())},
                           {"peak_bytes_total", host_allocator().use().peak_total},
                           {"weights_sha256", training.weights_sha256()}}
                          .dump()
                          .c_str());
}

}  // namespace

int main(int argc, char** argv) {
  return run_program("train_gpt", [&] {
    if (const auto options = read_options(argc, argv)) run(*options);
  });
}
