// train_gpt: trains a GPT on a text file by native gradient accumulation.
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <utility>

#include "../json.h"
#include "../program.h"
#include "dry_run.h"
#include "find_lr.h"
#include "progress.h"
#include "stopping.h"
#include "training.h"
#include "verify.h"

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

double number(const Json& value) { return value.is_number() ? value.get<double>() : NAN; }

void add(Json& to, const Validation& validation) {
  to["val_loss"] = validation.loss;
  if (validation.averaged) to["ema_val_loss"] = *validation.averaged;
}

// A cycle that was resumed has those since.
Json to_json(const std::vector<MicroRecord>& records) {
  Json all = Json::array();
  for (const MicroRecord& one : records) {
    Json& row = all.emplace_back(Json{{"samples", one.samples},
                                      {"loss", one.loss},
                                      {"count", one.count},
                                      {"factor", one.factor},
                                      {"non_finite", one.non_finite},
                                      {"bytes", one.bytes},
                                      {"milliseconds", one.milliseconds}});
    if (one.gradient_norm) row["gradient_norm"] = *one.gradient_norm;
    if (one.cosine) row["cosine"] = *one.cosine;
  }
  return all;
}

int64_t skipped(const Training& training) {
  return training.cycle.index().value - training.cycle.step().value;
}

struct Outcome {
  Json train_loss;  // null until there is one
  std::optional<Validation> validation;
  std::vector<double> tokens_per_second;
};

// The line of progress; it hears from the training while it lives.
class Display {
 public:
  Display(Training& training, int64_t first) : training_(training), done_(first), line_(part(0)) {
    training.told = [this](const char* what, double done) { show(what, done); };
  }
  ~Display() { training_.told = {}; }
  Display(const Display&) = delete;

  void stepped(int64_t step, double loss, double rate) {
    done_ = step;
    figures_ = text("  loss ", loss, "  ", std::lround(rate), " tokens/s");
  }
  void clear() { line_.clear(); }

 private:
  double part(double more) const {
    return (static_cast<double>(done_) + more) / static_cast<double>(training_.options.steps);
  }
  void show(const std::string& what, double done) {
    const bool step = what == "step";
    line_.show(part(step ? done : 0), [&] {
      const std::string other = step ? "" : text("  ", what, ' ', std::lround(100 * done), " %");
      return text("step ", done_ + step, '/', training_.options.steps, figures_, other);
    });
  }

  Training& training_;
  int64_t done_;
  std::string figures_;
  ProgressLine line_;
};

// Steps, validations and checkpoints up to --steps. Throws Stopped where a signal ends it.
class Run {
 public:
  // A cycle whose gradient was not finite is skipped, but counts: so a resumed run does no more.
  Run(Training& training, Saver& saver, Troubles& troubles)
      : training_(training),
        saver_(saver),
        troubles_(troubles),
        first_(training.cycle.index().value),
        batch_(training.batch()),
        log_(training.options.log, training.unlogged.empty() ? first_ : first_ - 1),
        display_(training, first_) {}

  Outcome train() {
    if (!training_.unlogged.empty())
      complete(Json::parse(training_.unlogged));  // stopped in validation
    for (int64_t step = first_ + 1; step <= training_.options.steps; ++step) take(step);
    if (!outcome_.validation)  // nothing was left to do
      training_.require_loss(outcome_.validation.emplace(training_.validate()));
    return outcome_;
  }

 private:
  void take(int64_t step) {
    const double began = seconds_now();
    const int64_t batch = training_.batch();
    if (batch != std::exchange(batch_, batch)) {
      display_.clear();
      std::printf("step %lld: batches of %lld sequences from here on\n",
                  static_cast<long long>(step), static_cast<long long>(batch));
      std::fflush(stdout);
    }
    const int64_t samples = training_.samples;  // a cycle under way has done some of the batch's
    const StepReport report = training_.step();
    const double rate =
        static_cast<double>((training_.samples - samples) * training_.options.model.context) /
        (seconds_now() - began);
    outcome_.tokens_per_second.push_back(rate);
    display_.stepped(step, report.mean_loss, rate);
    Json line{{"step", step},
              {"loss", report.mean_loss},
              {"gradient_norm", report.gradient_norm},
              {"lr", report.learning_rate},
              {"batch", batch},
              {"tokens_per_second", rate},
              {"skipped", report.skipped}};
    if (training_.options.records) line["micro_batches"] = to_json(training_.cycle.records());
    if (const auto scale = training_.noise_scale()) line["noise_scale"] = *scale;
    training_.unlogged = line.dump();
    complete(line);
  }

  // What follows a step: its validation where one is due, its line of the log, its checkpoint.
  void complete(Json line) {
    const int64_t step = line["step"];
    const bool last = step == training_.options.steps;
    outcome_.train_loss = line["loss"];
    const bool validates = last || step % training_.options.eval_interval == 0;
    if (validates) validate(line);
    troubles_.watch([&] { log_.write(line); });
    training_.unlogged.clear();
    if (validates) training_.require_loss(*outcome_.validation);
    saver_.at_step(last);
  }

  void validate(Json& line) {
    const Validation& validation = outcome_.validation.emplace(training_.validate());
    add(line, validation);
    display_.clear();
    std::printf("step %lld: training loss %.4f, validation loss %.4f",
                static_cast<long long>(line["step"]), number(line["loss"]), validation.loss);
    if (validation.averaged) std::printf(", of averaged weights %.4f", *validation.averaged);
    std::printf("\n");
    std::fflush(stdout);
  }

  Training& training_;
  Saver& saver_;
  Troubles& troubles_;
  int64_t first_, batch_;
  Log log_;
  Display display_;
  Outcome outcome_;
};

// Says where a signal stopped the run, and how to go on.
int stop(const Training& training, const Troubles& troubles, const Stopped& stopped, bool saved) {
  const std::string path =
      training.checkpoint.path(training.cycle.step(), training.cycle.micro_batches());
  if (saved)
    say(text(stopped.name(), ": saved step ", training.cycle.step().value, ", micro-batch ",
             training.cycle.micro_batches().value, " as '", path,
             "'; the same command with --resume goes on"));
  std::printf("%s\n", Json{{"stopped", stopped.name()},
                           {"steps", training.cycle.step().value},
                           {"micro_batches", training.cycle.micro_batches().value},
                           {"checkpoint", saved ? Json(path) : Json()}}
                          .dump()
                          .c_str());
  const int status = troubles.report();
  return status ? status : 128 + stopped.signal;  // as the shell says it
}

void begin(Training& training, Troubles& troubles) {
  const Options& o = training.options;
  const int64_t largest = training.batches->largest(), all = training.loader.samples_per_epoch();
  if (largest > all)
    say(text("a batch of ", largest, " sequences: the training text has ", all, " of ",
             o.model.context,
             " tokens, so a step reads some more than once; try a longer text, or ",
             "a smaller batch or --context"));
  if (o.resume) {
    training.resume();
    for (const std::string& warning : training.checkpoint.warnings())
      say(warning + "; the checkpoint before it is used");
    for (const std::string& note : training.identity.notes()) say(note);
    const int64_t step = training.cycle.index().value;
    std::printf("resumed at step %lld, micro-batch %lld%s\n", static_cast<long long>(step),
                static_cast<long long>(training.cycle.micro_batches().value),
                step >= o.steps
                    ? text(": nothing is left to do of --steps ", o.steps, "; try more").c_str()
                    : "");
  } else if (!o.checkpoint.empty() && o.verify == 0) {
    // A folder that cannot be read or written must not keep the run from training.
    bool some = false;
    troubles.watch([&] {
      some = training.checkpoint.exists();
      training.checkpoint.make_folder();
    });
    require(!some, "[checkpoint] expected no checkpoints in '", o.checkpoint,
            "', got some; try --resume, or another folder");
  }
}

Json result_of(const Training& training, const Outcome& outcome, double seconds) {
  const MemoryUse use = training.options.device.backend->memory->use();
  Json result;
  add(result, *outcome.validation);
  result.update({{"best_val_loss", training.best.item()},
                 {"train_loss", outcome.train_loss},
                 {"steps", training.cycle.step().value},
                 {"skipped_cycles", skipped(training)},
                 {"tokens_per_second", median(outcome.tokens_per_second)},
                 {"seconds", seconds},
                 {"parameters", parameters(training.model).elements()},
                 {"peak_bytes", bytes_by_tag(use)},
                 {"peak_bytes_total", use.peak_total},
                 {"weights_sha256", training.weights_sha256()}});
  return result;
}

int run(const Options& options) {
  const double began = seconds_now();
  omp_set_num_threads(static_cast<int>(options.threads));
  const Data data = read_data(options);
  if (options.dry_run) return dry_run(options, data), 0;
  if (options.schedules.find_lr) return find_lr(options, data), 0;
  Training training(options, data);
  Troubles troubles;
  begin(training, troubles);
  if (options.verify > 0) return verify(training), 0;
  Saver saver(training, troubles);
  Outcome outcome;
  // Until all is written: a signal must not cut off the last write. Without a folder there is
  // nothing to save to.
  std::optional<StopSignals> signals;
  if (!options.checkpoint.empty()) signals.emplace();
  try {
    outcome = Run(training, saver, troubles).train();
  } catch (const Stopped& stopped) {
    return stop(training, troubles, stopped, saver.save_and_wait());
  } catch (...) {
    saver.wait();
    troubles.report();
    throw;
  }
  const bool saved = saver.wait();
  if (const auto stopped = asked_to_stop()) return stop(training, troubles, *stopped, saved);
  signals.reset();
  if (training.cycle.step() == Step{})
    say(text("not one step was taken: the loss or gradient of all ", skipped(training),
             " cycles was not finite; try a smaller --lr or --loss-scale"));
  else if (training.lost_in_a_row > 0)
    say(text("no step was taken in the last ", training.lost_in_a_row,
             " cycles, whose losses or gradients were not finite; try a smaller --lr"));
  if (options.sample > 0) {  // it may have any byte, also a zero
    const std::string sampled = '\n' + training.sample_text(options.sample) + "\n\n";
    std::fwrite(sampled.data(), 1, sampled.size(), stdout);
  }
  const Json result = result_of(training, outcome, seconds_now() - began);
  std::printf("%s\n", result.dump().c_str());
  return troubles.report();
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGXFSZ, SIG_IGN);  // a limit on a file's size is an error of its write, not an end
  return run_program("train_gpt", [&] {
    const auto options = read_options(argc, argv);
    if (!options) return 0;
    check_choices(*options);
    return run(*options);
  });
}
