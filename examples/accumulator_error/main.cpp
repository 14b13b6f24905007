// accumulator_error: the error of every accumulator against f64, over the number of micro-batches.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "../command_line.h"
#include "../json.h"
#include "../progress_line.h"
#include "accrue/core/file.h"
#include "plot.h"

using namespace accrue;
using namespace accrue::examples;
using Json = nlohmann::ordered_json;

namespace {

struct Options {
  GradientOptions gradients;
  std::string csv, svg, log;
};

void write_file(const std::string& path, const std::string& content) {
  if (!path.empty()) write_whole(path, std::as_bytes(std::span(content)));
}

/// Empty where there is no figure.
Json number(double value) { return std::isfinite(value) ? Json(value) : Json(); }

std::string to_csv(const std::vector<Measured>& measured) {
  std::ostringstream csv;
  csv << "gradients,accumulator,micro_batches,relative_rms_error,bound\n";
  for (const Measured& row : measured) {
    csv << row.gradients << ',' << row.accumulator << ',' << row.micro_batches << ',' << row.error
        << ',';
    if (std::isfinite(row.bound)) csv << row.bound;
    csv << '\n';
  }
  return csv.str();
}

void print(const Gradients& gradients, const std::vector<Measured>& measured) {
  std::printf("%s: relative RMS error of the sum\n%-17s", gradients.title.c_str(), "K");
  const auto rows = [&](const std::string& accumulator, const char* format, auto value) {
    for (const Measured& row : measured)
      if (row.accumulator == accumulator) std::printf(format, value(row));
    std::printf("\n");
  };
  rows("f32", "%9lld", [](auto& row) { return static_cast<long long>(row.micro_batches); });
  for (const auto& accumulator : measured_accumulators()) {
    const std::string name(accumulator->name());
    std::printf("%-17s", name.c_str());
    rows(name, "%9.1e", [](auto& row) { return row.error; });
  }
  std::printf("\n");
}

/// 512 terms of 1, of which each sum but bf16's holds all.
Json equal_terms() {
  constexpr int64_t terms = 512;
  Json sums{{"terms", terms}};
  std::printf("%lld terms of 1 add up to\n", static_cast<long long>(terms));
  for (const auto& accumulator : measured_accumulators()) {
    if (accumulator->name() == "flora") continue;  // one weight is no matrix to project
    const double sum = sum_of_ones(accumulator, terms);
    sums[std::string(accumulator->name())] = sum;
    std::printf("%-17s %9g\n", std::string(accumulator->name()).c_str(), sum);
  }
  std::printf("\n");
  return sums;
}

// Both files are written after minutes of work.
void require_folders(const Options& o) {
  for (const std::string& path : {o.csv, o.svg})
    require(
        path.empty() || access(std::filesystem::absolute(path).parent_path().c_str(), W_OK) == 0,
        "[accumulator_error] expected a folder that can be written for '", path,
        "', got none; try another file");
}

Json log_line(const Measured& row) {
  return {{"gradients", row.gradients},
          {"accumulator", row.accumulator},
          {"micro_batches", row.micro_batches},
          {"error", number(row.error)},
          {"bound", number(row.bound)}};
}

void run(const Options& o) {
  ProgressLine line;
  const Progress show = [&line](const char* what, int64_t done, int64_t all) {
    line.show(static_cast<double>(done) / static_cast<double>(all),
              [&] { return text(what, ": ", done, " of ", all); });
  };
  std::ofstream log;
  if (!o.log.empty()) log.open(o.log);
  if (log.fail()) fail_log(o.log);
  int log_error = 0;
  require_folders(o);
  std::vector<Gradients> all{
      gpt_gradients(o.gradients, show),  // first: it may refuse the text
      drawn_gradients("one_sign", "g = 1 ± 0.3, rounded to bf16", 1, 0.3, o.gradients),
      drawn_gradients("zero_mean", "g = 0 ± 1, rounded to bf16", 0, 1, o.gradients)};
  std::rotate(all.begin(), all.begin() + 1, all.end());
  std::vector<Measured> measured;
  Json errors;
  for (const Gradients& gradients : all) {
    const std::vector<Measured> some = measure(gradients, show);
    line.clear();
    print(gradients, some);
    for (const Measured& row : some) {
      errors[row.gradients][row.accumulator][std::to_string(row.micro_batches)] = number(row.error);
      if (o.log.empty() || log_error != 0) continue;
      if (!(log << log_line(row).dump() << std::endl)) log_error = errno;
    }
    measured.insert(measured.end(), some.begin(), some.end());
  }
  const Json ones = equal_terms();
  write_file(o.csv, to_csv(measured));
  write_file(o.svg, plot(all, measured));
  std::printf("%s\n", Json{{"k_max", o.gradients.count},
                           {"elements", o.gradients.elements},
                           {"seed", o.gradients.seed.value},
                           {"errors", errors},
                           {"equal_terms", ones}}
                          .dump()
                          .c_str());
  if (!log) fail_log(o.log, log_error);
}

}  // namespace

int main(int argc, char** argv) {
  return run_program("accumulator_error", [&] {
    Options o;
    GradientOptions& g = o.gradients;
    CommandLine flags(
        "accumulator_error",
        "Adds up K micro-gradients by every accumulator and compares with their sum in f64, for "
        "K = 1, 2, 4, …: drawn gradients of one sign and of both, and those of a GPT.");
    flags.add("--k-max", g.count, "The largest K");
    flags.add("--elements", g.elements, "Of each gradient; a multiple of 512, at most 65536");
    flags.add("--data", g.data, "A text file for the GPT (default: a drawn one, always the same)");
    flags.add("--training-steps", g.training_steps,
              "Of the GPT, by train_gpt's recipe, before its gradients are read");
    flags.add("--seed", g.seed.value);
    std::string device;
    flags.add_device(device);
    flags.add("--csv", o.csv, "The table, as a file");
    flags.add("--svg", o.svg, "The picture");
    flags.add("--log", o.log, "JSON lines, one per figure");
    if (!flags.parse(argc, argv)) return;
    require_usage(g.count >= 1 && g.count <= 65536, "--k-max: expected 1 to 65536, got ", g.count);
    require_usage(g.elements >= 512 && g.elements <= 65536 && g.elements % 512 == 0,
                  "--elements: expected a multiple of 512 up to 65536, got ", g.elements);
    require_usage(g.training_steps >= 0, "--training-steps: expected 0 or more, got ",
                  g.training_steps);
    require_distinct({{"--data", g.data}, {"--csv", o.csv}, {"--svg", o.svg}, {"--log", o.log}});
    g.device = device_named(device);
    run(o);
  });
}
