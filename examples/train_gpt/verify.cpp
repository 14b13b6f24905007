// --verify: the gradients of one cycle against the same tapes in f64.
#include "verify.h"

#include <algorithm>
#include <cmath>

#include "../program.h"
#include "accrue/autograd/verify.h"
#include "progress.h"

namespace accrue::examples {
namespace {

using Json = nlohmann::ordered_json;

Verification verify(const Gpt& model, const Cycle& cycle, const TokenBatch& batch,
                    int64_t micro_batch, const VerifyOptions& how = {}) {
  return verify_cycle(
      cycle, batch, {.samples = micro_batch},
      [&](const TokenBatch& micro) { return cross_entropy(model(micro.tokens), micro.targets); },
      how);
}

TokenBatch first_batch(const Options& o, const Data& data, int64_t context, int64_t samples) {
  TokenLoader loader(data.train,
                     {.context = context, .batch = samples, .seed = o.seed, .device = o.device});
  return loader.next();
}

// Products of a sample, forward and backward: six a matrix's weight and token, the head's included,
// and six a channel and pair of tokens in causal attention.
double products(const Gpt& model, int64_t context) {
  int64_t matrices = model.config.tied ? 0 : model.head().shape().elements();
  for (const auto& one : decayed(parameters(model)).list) matrices += one->shape.elements();
  const auto tokens = static_cast<double>(context);
  return 6 * tokens * static_cast<double>(matrices) +
         6 * tokens * tokens * static_cast<double>(model.config.width * model.config.layers);
}

constexpr int64_t tried_context = 8;

// Seconds that a product takes in f64 on `reference`, measured on one layer and a few tokens: the
// best of a second's tries, because the first ones wait for the cpu backend to make its code.
double seconds_per_product(const Options& o, const Data& data) {
  GptConfig config = o.model;
  config.vocabulary = data.tokenizer.vocabulary();
  config.layers = 1;
  config.context = std::min(config.context, tried_context);
  Gpt model(config);
  initialize(model, {o.device, o.dtype}, o.seed);
  const Cycle cycle(parameters(model));
  const TokenBatch batch = first_batch(o, data, config.context, 1);
  double best = INFINITY;
  for (double spent = 0, took = 0; spent < 1; spent += took) {
    const double began = seconds_now();
    verify(model, cycle, batch, 1);
    took = seconds_now() - began;
    best = std::min(best, took);
  }
  return best / products(model, config.context);
}

// What arithmetic may add to an error: forward and backward, each operation rounds what it stores
// by u of the dtype and a sum of n terms by √n·2⁻²⁴; independent roundings of N operations add up
// to √(2N) of one (Higham & Mary, "A new approach to probabilistic rounding error analysis", SISC
// 41, 2019). Ten times that, because the terms of a gradient cancel.
double arithmetic_bound(const Options& o, const Verification& report) {
  const double u = o.dtype == DType::f32 ? 0x1p-24 : o.dtype == DType::f16 ? 0x1p-11 : 0x1p-8;
  const auto terms =
      static_cast<double>(std::max(o.micro_batch * o.model.context, 4 * o.model.width));
  return 10 * std::sqrt(2.0 * static_cast<double>(report.operations)) *
         (u + std::sqrt(terms) * 0x1p-24);
}

Json line_of(const ParameterError& one, double allowed) {
  return {{"name", one.name},      {"accumulator", one.accumulator},
          {"error", one.relative}, {"allowed", allowed},
          {"bound", one.bound},    {"largest", one.largest},
          {"norm", one.norm},      {"deposits", one.deposits}};
}

/// Says how long it will take, before it does.
double estimated_seconds(const Training& training) {
  const Options& o = training.options;
  const double each = seconds_per_product(o, training.data);
  const double estimate =
      each * static_cast<double>(o.verify) * products(training.model, o.model.context);
  std::printf(
      "%lld samples in f64 on reference: about %.2g s, by their products and the time of one layer "
      "and %lld tokens\n",
      static_cast<long long>(o.verify), estimate,
      static_cast<long long>(std::min(o.model.context, tried_context)));
  std::fflush(stdout);
  return estimate;
}

/// The report, the largest errors first.
Verification verify_with_progress(Training& training) {
  const Options& o = training.options;
  ProgressLine line;
  const auto show = [&line](double part) {
    line.show(part, [part] { return text(std::lround(100 * part), " % of the samples"); });
  };
  Verification report = verify(training.model, training.cycle,
                               first_batch(o, training.data, o.model.context, o.verify),
                               std::min(o.micro_batch, o.verify), {.progress = show});
  const auto size = [](double error) { return std::isnan(error) ? INFINITY : error; };
  std::ranges::stable_sort(report.parameters, [&](const auto& a, const auto& b) {
    return size(a.relative) > size(b.relative);
  });
  return report;
}

struct Judged {
  Json lines = Json::array();   // of each parameter
  std::string wrong, unjudged;  // the worst that is beyond its bound; those without one
};

/// Prints and logs each parameter's error beside what is allowed.
Judged print_table(const Verification& report, double arithmetic, const Options& o) {
  Log log(o.log, 0);
  Judged judged;
  auto& [lines, wrong, unjudged] = judged;
  std::printf("%-40s %-15s %10s %10s %10s %10s\n", "parameter", "accumulator", "error", "allowed",
              "largest", "norm");
  for (const ParameterError& one : report.parameters) {
    const double allowed = one.bound + arithmetic;
    std::printf("%-40s %-15s %10.2e %10.2e %10.2e %10.2e\n", one.name.c_str(),
                one.accumulator.c_str(), one.relative, allowed, one.largest, one.norm);
    lines.push_back(line_of(one, allowed));
    log.write(lines.back());
    if (std::isinf(allowed))
      unjudged += text(unjudged.empty() ? "" : ", ", one.name);
    else if (wrong.empty() && !(one.relative <= allowed))
      wrong = text(one.name, " is off by ", one.relative, " of its norm");
  }
  std::printf(
      "error: |A - A64| / |A64| of the sums A; allowed: the accumulator's bound and, for the "
      "arithmetic of %s, %.2e\n",
      std::string(name_of(o.dtype)).c_str(), arithmetic);
  return judged;
}

}  // namespace

void verify(Training& training) {
  const Options& o = training.options;
  if (training.cycle.micro_batches() > MicroStep{})
    say(text(
        "the checkpoint is from within a cycle: it is verified from its beginning, without the ",
        training.cycle.micro_batches().value, " micro-batches that are done"));
  training.cycle.discard();  // of this process only: nothing is saved
  const int64_t all = windows(training.data.train, o.model.context);
  require_usage(o.verify <= all, "--verify: expected at most the ", all,
                " windows of the training text, got ", o.verify);
  const double estimate = estimated_seconds(training);
  const double began = seconds_now();
  const Verification report = verify_with_progress(training);
  const double seconds = seconds_now() - began, arithmetic = arithmetic_bound(o, report);
  const Judged judged = print_table(report, arithmetic, o);
  if (!judged.unjudged.empty())
    std::printf("not judged, because their accumulators declare no bound: %s\n",
                judged.unjudged.c_str());
  if (report.micro_batches.size() == 1)
    std::printf("one micro-batch: its sums added nothing up; for several, try --verify %lld\n",
                static_cast<long long>(4 * o.micro_batch));
  if (judged.wrong.empty() && judged.unjudged.empty())
    std::printf("all %zu parameters are within what is allowed\n", report.parameters.size());
  std::printf("%s\n",
              Json{{"verified", judged.wrong.empty()},
                   {"samples", o.verify},
                   {"micro_batches", report.micro_batches.size()},
                   {"dropped", std::ranges::count(report.micro_batches, 0.0, &MicroRecord::factor)},
                   {"loss", report.loss},
                   {"exact_loss", report.exact_loss},
                   {"worst_error", report.parameters[0].relative},
                   {"arithmetic_bound", arithmetic},
                   {"estimated_seconds", estimate},
                   {"seconds", seconds},
                   {"parameters", judged.lines}}
                  .dump()
                  .c_str());
  std::fflush(stdout);
  const bool overflow = training.scale && std::isnan(report.parameters[0].relative);
  if (overflow)
    throw Failure(text("[verify] expected finite gradients, got an overflow of the loss scale ",
                       training.scale->value(), "; try --loss-scale ",
                       training.scale->value() / 64));
  if (!judged.wrong.empty())
    throw Failure(text("[verify] expected errors of accumulation and arithmetic alone, at most ",
                       arithmetic, " and the accumulator's bound, but ", judged.wrong,
                       "; see the table for the others"));
}

}  // namespace accrue::examples
