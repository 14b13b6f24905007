#include "options.h"

#include <omp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "../command_line.h"

namespace accrue::examples {
namespace {

// As one would write it: 3e-3 / 10 is not the number 3e-4.
double tenth(double x) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%.15g", x / 10);
  return std::strtod(digits, nullptr);
}

// Words as they stand on the command line, before they become types.
struct Words {
  std::string tokenizer = "char", device, dtype = "f32", recompute = "none";
  std::string f32_products = "native";
  std::string positions = "learned", norm = "layer", activation = "gelu";
  bool untied = false;
  std::string checkpoint_interval;
  std::optional<double> min_lr;
  std::optional<int64_t> warmup, threads;
};

void add_model_flags(CommandLine& line, Options& o, Words& words) {
  CLI::App& app = line.app();
  GptConfig& m = o.model;
  app.add_option("--layers", m.layers, "Blocks")->capture_default_str();
  app.add_option("--heads", m.heads, "Attention heads; they divide the width")
      ->capture_default_str();
  app.add_option("--width", m.width, "Width of the residual stream")->capture_default_str();
  app.add_option("--context", m.context, "Tokens of a sequence")->capture_default_str();
  app.add_option("--dropout", m.dropout, "Probability, in [0, 1)")->capture_default_str();
  const auto choice = [&](const char* flag, std::string& word, std::vector<std::string> all) {
    app.add_option(flag, word)->check(one_of(std::move(all)))->capture_default_str();
  };
  choice("--positions", words.positions, {"learned", "rope"});
  choice("--norm", words.norm, {"layer", "rms"});
  choice("--activation", words.activation, {"gelu", "swiglu"});
  app.add_flag("--untied", words.untied, "A head of its own instead of the token embedding");
  choice("--recompute", words.recompute, {"none", "block", "sqrt"});
  line.add_device(words.device);
  choice("--dtype", words.dtype, {"f32", "bf16", "f16"});
  line.add_f32_products(words.f32_products);
}

void add_training_flags(CLI::App& app, Options& o, Words& words) {
  app.add_option("--micro-batch", o.micro_batch,
                 "Sequences at a time (default: 12, or the effective batch if that is smaller)");
  app.add_option("--effective-batch", o.effective_batch,
                 "Sequences of a step; need not be a multiple")
      ->capture_default_str();
  app.add_option("--steps", o.steps, "Optimizer steps; with --find-lr, points of its sweep")
      ->capture_default_str();
  app.add_option("--lr", o.lr, "Peak of the learning rate")->capture_default_str();
  app.add_option("--min-lr", words.min_lr, "Where the cosine ends (default: lr/10)");
  app.add_option("--warmup", words.warmup, "Steps of linear warm-up (default: 100 or steps/5)");
  app.add_option("--weight-decay", o.weight_decay, "Of matrices")->capture_default_str();
  app.add_option("--beta1", o.beta1)->capture_default_str();
  app.add_option("--beta2", o.beta2)->capture_default_str();
  app.add_option("--clip", o.clip, "Of the gradient's global norm; 0: none")->capture_default_str();
  app.add_option("--seed", o.seed.value)->capture_default_str();
  app.add_option("--threads", words.threads, "(default: all cores, or OMP_NUM_THREADS)");
}

void add_run_flags(CLI::App& app, Options& o, Words& words) {
  // What a shell makes of an unset variable.
  const auto named = [](const std::string& word) {
    return word.empty() ? "expected a name, got none" : "";
  };
  app.add_option("--data", o.data, "A text file; its last tenth is for validation")
      ->required()
      ->check(named);
  app.add_option("--tokenizer", words.tokenizer)
      ->check(one_of({"char", "byte"}))
      ->capture_default_str();
  app.add_option("--eval-interval", o.eval_interval, "Steps between validations")
      ->capture_default_str();
  app.add_option("--eval-batches", o.eval_batches,
                 "Effective batches of a validation; 0: all windows")
      ->capture_default_str();
  auto* dry =
      app.add_flag("--dry-run", o.dry_run, "Print the bytes that a run needs; train nothing");
  app.add_option(
         "--verify", o.verify,
         "Samples of one cycle; compare their gradients with f64 on reference; train nothing")
      ->check(positive)
      ->excludes(dry);
  const auto given = [](const std::string& word) {
    return word.empty() ? "expected steps, or micro-batches as in 50m, got none" : "";
  };
  auto* log = app.add_option("--log", o.log,
                             "JSON lines, one per step; begun anew, or gone on with by --resume")
                  ->check(named);
  app.add_flag("--records", o.records, "Log what happened to each micro-batch, too")->needs(log);
  auto* folder = app.add_option(
      "--checkpoint", o.checkpoint,
      "Folder; the last two are kept. SIGTERM and SIGINT (Ctrl-C) then save at the next "
      "micro-batch's edge and end the run with status 143 or 130; a second one ends "
      "it at once");
  folder->check(named);
  app.add_option("--checkpoint-interval", words.checkpoint_interval,
                 "Steps, or micro-batches of --micro-batch as in 50m (default: eval-interval)")
      ->check(given)
      ->needs(folder);
  app.add_flag("--resume", o.resume,
               "Go on from the newest checkpoint that is whole, with the same bits; flags that "
               "change the weights must be the same")
      ->needs(folder)
      ->excludes(dry);
  app.add_option("--sample", o.sample, "Tokens to write once trained")->capture_default_str();
  app.add_option("--temperature", o.temperature, "Of the sample")->capture_default_str();
  app.add_option("--top-k", o.top_k, "Of the sample; 0: all")->capture_default_str();
}

void apply(Options& o, const Words& words) {
  GptConfig& m = o.model;
  o.tokenizer = tokenizer_kind(words.tokenizer);
  o.device = device_named(words.device);
  o.dtype = words.dtype == "f32" ? DType::f32 : words.dtype == "f16" ? DType::f16 : DType::bf16;
  m.recompute = words.recompute == "none"    ? Recompute::none
                : words.recompute == "block" ? Recompute::block
                                             : Recompute::sqrt;
  m.positions = words.positions == "rope" ? Positions::rope : Positions::learned;
  m.norm = words.norm == "rms" ? NormKind::rms_norm : NormKind::layer_norm;
  m.activation = words.activation == "swiglu" ? Activation::swiglu : Activation::gelu;
  m.tied = !words.untied;
  o.min_lr = words.min_lr.value_or(tenth(o.lr));
  o.warmup = words.warmup.value_or(warmup_for(o.steps));
  o.threads = words.threads.value_or(omp_get_max_threads());
}

// "50" steps or "50m": micro-batches.
void apply_interval(Options& o, const std::string& word) {
  o.checkpoint_interval = o.eval_interval;
  if (word.empty()) return;
  o.interval_in_micro_batches = word.ends_with('m');
  const char* end = word.data() + word.size() - o.interval_in_micro_batches;
  const auto [stop, error] = std::from_chars(word.data(), end, o.checkpoint_interval);
  require_usage(error == std::errc() && stop == end,
                "--checkpoint-interval: expected steps, or micro-batches as in 50m, got ", word);
}

// As the run reads them: however a number is written, and defaults that hang on other flags too.
std::map<std::string, std::string> values_of(const CLI::App& app, const Options& o) {
  std::map<std::string, std::string> values;
  for (const CLI::Option* one : app.get_options()) {
    const bool is_switch = one->get_items_expected_max() == 0;
    const bool whole = one->get_type_name() == "INT" && one->count() > 0;
    values[one->get_name()] = one->count() == 0 ? (is_switch ? "" : one->get_default_str())
                              : is_switch       ? "on"
                              : whole
                                  ? text(std::strtoll(one->results().back().c_str(), nullptr, 0))
                                  : one->results().back();
  }
  values["--micro-batch"] = text(o.micro_batch);
  values["--min-lr"] = nlohmann::json(o.min_lr).dump();  // with all digits
  values["--warmup"] = text(o.warmup);
  values["--threads"] = text(o.threads);
  values["--device"] = o.device.backend->name;
  const std::string& filter = o.accumulation.filter;
  if (!filter.empty()) values["--filter"] = filters::parse(filter)->name();
  if (!o.schedules.by.empty()) values["--max-batch"] = text(o.schedules.largest);
  if (o.dtype == DType::f16)
    values["--loss-scale"] =
        nlohmann::json(o.accumulation.loss_scale.value_or(f16_loss_scale)).dump();
  return values;
}

// What is there must not be lost: neither what is read, nor the log of a training.
void check_log(const Options& o) {
  namespace fs = std::filesystem;
  std::error_code error;
  require_distinct({{"--data", o.data}, {"--log", o.log}});
  if (o.log.empty()) return;
  const fs::path log = fs::weakly_canonical(o.log, error);
  require_usage(o.checkpoint.empty() || log.extension() != ".safetensors" ||
                    log.parent_path() != fs::weakly_canonical(o.checkpoint, error),
                "--log: expected another file than a checkpoint, got '", o.log, "'");
  const bool other = o.verify > 0 || o.schedules.find_lr;
  require_usage(!other || !fs::is_regular_file(log, error) || fs::is_empty(log, error),
                "--log: expected a new file for what ", o.verify > 0 ? "--verify" : "--find-lr",
                " finds, got '", o.log, "', which is not empty");
}

void check(const Options& o) {
  const auto at_least = [](const char* flag, auto value, auto least) {
    require_usage(value >= least && std::isfinite(static_cast<double>(value)), flag,
                  ": expected at least ", least, ", got ", value);
  };
  for (const auto& [flag, value] : std::initializer_list<std::pair<const char*, int64_t>>{
           {"--micro-batch", o.micro_batch},
           {"--effective-batch", o.effective_batch},
           {"--steps", o.steps},
           {"--eval-interval", o.eval_interval},
           {"--checkpoint-interval", o.checkpoint_interval},
           {"--threads", o.threads}})
    at_least(flag, value, 1);
  for (const auto& [flag, value] :
       std::initializer_list<std::pair<const char*, double>>{{"--lr", o.lr},
                                                             {"--min-lr", o.min_lr},
                                                             {"--warmup", o.warmup},
                                                             {"--weight-decay", o.weight_decay},
                                                             {"--beta1", o.beta1},
                                                             {"--beta2", o.beta2},
                                                             {"--clip", o.clip},
                                                             {"--eval-batches", o.eval_batches},
                                                             {"--sample", o.sample},
                                                             {"--temperature", o.temperature},
                                                             {"--top-k", o.top_k}})
    at_least(flag, value, 0);
  require_usage(o.beta1 < 1 && o.beta2 < 1, "--beta1, --beta2: expected less than 1, got ", o.beta1,
                " and ", o.beta2);
  require_usage(o.micro_batch <= o.effective_batch,
                "--micro-batch: expected at most the effective batch of ", o.effective_batch,
                ", got ", o.micro_batch, "; try --micro-batch ", o.effective_batch);
  require_usage(o.min_lr <= o.lr, "--min-lr: expected at most --lr ", o.lr, ", got ", o.min_lr);
  require_usage(o.warmup <= o.steps, "--warmup: expected at most the ", o.steps, " steps, got ",
                o.warmup);
  for (const auto& [flag, rate] :
       {std::pair("--lr", o.lr), std::pair("--weight-decay", o.weight_decay)})
    require_usage(rate <= std::numeric_limits<float>::max(), flag,
                  ": expected a number that f32 holds, got ", rate);
  require_batch("--effective-batch", o.effective_batch, o);
  require_usage(o.threads <= 1024, "--threads: expected at most 1024, got ", o.threads);
  check(o.accumulation);
  check_log(o);
  require_usage(o.verify == 0 ||
                    (o.accumulation.consume != "adam_a" && o.accumulation.consume != "invariant"),
                "--verify: expected sums to compare, got --consume ", o.accumulation.consume,
                ", which keeps none");
  require_usage(o.device.backend->supports(o.dtype), "--dtype: expected one that the device has");
}

}  // namespace

std::optional<Options> read_options(int argc, char** argv) {
  Options options;
  Words words;
  CommandLine line("train_gpt", "Trains a GPT on a text file by native gradient accumulation.");
  CLI::App& app = line.app();
  add_run_flags(app, options, words);
  add_model_flags(line, options, words);
  add_training_flags(app, options, words);
  add_accumulation_flags(app, options.accumulation);
  add_schedule_flags(app, options.schedules);
  if (!line.parse(argc, argv)) return std::nullopt;
  if (app.count("--micro-batch") == 0)
    options.micro_batch =
        std::min(options.micro_batch, std::max<int64_t>(options.effective_batch, 1));
  apply_schedule_flags(app, options);
  apply(options, words);
  // The library's own checks, whose messages name what is wrong.
  as_usage("", [&] { options.model.check(); });
  apply_interval(options, words.checkpoint_interval);
  check(options);
  check_schedules(options);
  options.flags = values_of(app, options);
  choose_f32_products(words.f32_products, options.device);
  return options;
}

}  // namespace accrue::examples
