#include "find_lr.h"

#include <algorithm>
#include <cstdio>

#include "progress.h"

namespace accrue::examples {
namespace {

using Json = nlohmann::ordered_json;

void print_table(const std::vector<LrRangeTest::Point>& points) {
  constexpr size_t rows = 25;
  const size_t every = std::max<size_t>((points.size() + rows - 1) / rows, 1);
  std::printf("%12s %12s %12s\n", "rate", "loss", "smoothed");
  for (size_t i = 0; i < points.size(); i += every)
    std::printf("%12.3g %12.4f %12.4f\n", points[i].rate, points[i].loss, points[i].smoothed);
}

Json or_null(const std::optional<double>& number) { return number ? Json(*number) : Json(); }

void print_suggestion(const LrRangeTest& test) {
  const std::optional<double> steepest = test.steepest(), divergence = test.divergence();
  std::optional<double> tenth, lr = steepest;
  if (divergence) {
    std::printf("the loss diverged at %.3g: a tenth of it is %.3g\n", *divergence,
                *divergence / 10);
    tenth = *divergence / 10;
    lr = std::min(steepest.value_or(*tenth), *tenth);
  }
  if (steepest) std::printf("the loss fell fastest at %.3g\n", *steepest);
  constexpr size_t few = 50;
  if (test.points().size() < few)
    std::printf("these are %zu points, in which noise may be what falls; try more --steps\n",
                test.points().size());
  if (lr)
    std::printf("try --lr %.3g\n", *lr);
  else
    std::printf("the loss neither fell nor diverged; try more --steps\n");
  std::printf("%s\n", Json{{"find_lr", true},
                           {"steps", test.points().size()},
                           {"steepest", or_null(steepest)},
                           {"divergence", or_null(divergence)},
                           {"tenth_of_divergence", or_null(tenth)},
                           {"lr", or_null(lr)}}
                          .dump()
                          .c_str());
}

}  // namespace

void find_lr(const Options& options, const Data& data) {
  Training training(options, data);
  LrRangeTest test({.steps = options.steps});
  Log log(options.log, 0);
  ProgressLine progress;
  int64_t done = 0;
  training.told = [&](const char*, double part) {
    progress.show((static_cast<double>(done) + part) / static_cast<double>(options.steps),
                  [&] { return text("step ", done + 1, '/', options.steps); });
  };
  for (bool more = true; more;) {
    const double began = seconds_now();
    const StepReport report = training.try_step();
    // Once more: with a smaller scale, or with a batch of which not all is dropped.
    if (report.skipped && !training.hopeless()) continue;
    more = test.update(report);
    const double rate = report.count / (seconds_now() - began);
    if (report.skipped) break;
    done = static_cast<int64_t>(test.points().size());
    log.write({{"step", done},
               {"loss", report.mean_loss},
               {"smoothed_loss", test.points().back().smoothed},
               {"lr", report.learning_rate},
               {"tokens_per_second", rate}});
  }
  progress.clear();
  print_table(test.points());
  print_suggestion(test);
}

}  // namespace accrue::examples
