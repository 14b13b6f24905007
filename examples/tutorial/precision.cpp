// precision: what each accumulator makes of sums that are easy to check in one's head.
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "program.h"

using namespace accrue;

namespace {

struct Weight {  // the gradient of w·x is x: a batch is a list of gradients
  Parameter w{{1, 1}, ones()};
  void visit(Visitor& part) { part("w", w); }
};

struct Gradients {
  Tensor x;
  std::vector<int64_t> indices;
  std::span<const int64_t> samples() const { return indices; }
  Gradients slice(int64_t first, int64_t count) const {
    const auto begin = indices.begin() + first;
    return {x.slice(first, count), {begin, begin + count}};
  }
};

Gradients gradients(const std::vector<double>& numbers, Device device) {
  const auto n = static_cast<int64_t>(numbers.size());
  std::vector<float> x(numbers.begin(), numbers.end());
  Gradients all{Tensor::of<float>({n, 1}, x, device), {}};
  for (int64_t i = 0; i < n; ++i) all.indices.push_back(i);
  return all;
}

double sum_of(const Weight& model, std::shared_ptr<const Accumulator> accumulator,
              const std::vector<double>& numbers) {
  Cycle cycle(parameters(model), {.accumulate = {{"*", std::move(accumulator)}}});
  const ClosedCycle closed =
      cycle.run(gradients(numbers, model.w.master().device()), {.samples = 1},
                [&](const Gradients& micro) { return Loss(sum(matmul(micro.x, model.w)), 1); });
  return closed.buffers()[0]->state("sum").item();
}

void run(Device device) {
  Weight model;
  initialize(model, {device}, Seed{1});
  const double small = 0x1p-24;  // half of what f32 can add to 1
  std::vector<double> tiny(1 + 1024, small);
  tiny[0] = 1;
  const struct {
    std::string name;
    std::vector<double> terms;
  } cases[]{{"256 + 1", {256, 1}},
            {"1, 2,048 times", std::vector<double>(2048, 1)},
            {"1 + 1024 x " + text("2^", std::log2(small)), tiny}};
  std::printf("%-16s", "");
  for (const auto& one : cases) std::printf(" %18s", one.name.c_str());
  std::printf("\n%-16s %18s %18s %18.9f\n", "exact", "257", "2048", 1 + 1024 * small);
  nlohmann::ordered_json rows;
  for (const auto& accumulator : accumulators::all()) {
    std::vector<double> sums;
    for (const auto& one : cases) sums.push_back(sum_of(model, accumulator, one.terms));
    std::printf("%-16s %18g %18g %18.9f\n", std::string(accumulator->name()).c_str(), sums[0],
                sums[1], sums[2]);
    rows[std::string(accumulator->name())] = sums;
  }
  std::printf("%s\n", rows.dump().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  return examples::run_tutorial(
      "precision", "What each accumulator makes of sums that can be checked in one's head.", argc,
      argv, run);
}
