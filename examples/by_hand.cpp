// by_hand: one cycle of a linear model, every number printed; all can be checked on paper.
#include <cstdio>

#include "command_line.h"
#include "json.h"

using namespace accrue;

namespace {
void print(const std::string& what, const Tensor& numbers, double divisor = 1) {
  std::printf("%-28s", what.c_str());
  for (double one : numbers.to_vector()) std::printf(" %g", one / divisor);
  std::printf("\n");
}

/// Adds as the f32 accumulator does, and shows what it adds.
struct Shown final : Accumulator {
  std::string_view name() const override { return "shown"; }
  bool fused() const override { return false; }  // collect a micro-batch's gradient, then fold()
  double error_bound(int64_t k) const override { return static_cast<double>(k - 1) * 0x1p-24; }
  void fold(GradBuffer& buffer, In micro, Write write) const override {
    print("  " + buffer.parameter() + (write == Write::set ? " set" : " add"), buffer.micro());
    Accumulator::fold(buffer, micro, write);
    print("  " + buffer.parameter() + " sum is now", buffer.state("sum"));
  }
};

Initial numbers(std::vector<float> values) {
  return [values](std::span<float> to, RandomKey) { std::ranges::copy(values, to.begin()); };
}

struct Line {  // y = x·w + b
  Parameter w{{2, 1}, numbers({3, 1})}, b{{1}, numbers({2})};
  Var operator()(const Var& x) const { return linear(x, w, b); }
  void visit(Visitor& part) { part("w", w), part("b", b); }
};

struct Points {
  Tensor x, t;
  std::vector<int64_t> indices;
  std::span<const int64_t> samples() const { return indices; }
  Points slice(int64_t first, int64_t count) const {
    const auto begin = indices.begin() + first;
    return {x.slice(first, count), t.slice(first, count), {begin, begin + count}};
  }
};

void run(Device device) {
  const std::vector<float> x{1, 1, 3, 0, 2, 1, 3, 1}, t{4, 15, 5, 10};
  const Points batch{
      Tensor::of<float>({4, 2}, x, device), Tensor::of<float>({4, 1}, t, device), {0, 1, 2, 3}};
  Line model;
  initialize(model, {device}, Seed{1});
  Sgd optimizer(parameters(model), {.lr = 0.5});
  Cycle cycle(parameters(model), {.accumulate = {{"*", std::make_shared<Shown>()}}});
  print("w", model.w.master());
  print("b", model.b.master());

  // With e = y − t: loss Σ e², dw = Σ 2e·x, db = Σ 2e.
  //   x      y   t   e   2e·x      2e      x      y   t   e   2e·x    2e
  //   1 1    6   4   2    4   4     4      2 1    9   5   4   16  8    8
  //   3 0   11  15  -4  -24   0    -8      3 1   12  10   2   12  4    4
  for (const Points& micro : cycle.split(batch, {.samples = 3})) {  // 3 samples, then 1
    std::printf("micro-batch %lld\n", static_cast<long long>(cycle.micro_batches().value + 1));
    MicroScope scope = cycle.begin(micro);
    const Var y = model(micro.x);
    print("  y", y.value());
    const Loss loss = mean_squared_error(y, micro.t);
    print("  loss sum", loss.sum().value());
    std::printf("  %-26s %g\n", "count", loss.count().item());
    scope.backward(loss);
  }
  ClosedCycle closed = cycle.close();
  const double count = closed.count();
  std::printf("%-28s %g\n%-28s %g\n", "count", count, "mean loss", closed.mean_loss());
  for (const auto& buffer : closed.buffers()) {
    print(buffer->parameter() + " sum", buffer->state("sum"));
    print(buffer->parameter() + " mean gradient", buffer->state("sum"), count);
  }
  // The update: w − lr·mean gradient = (3, 1) − 0.5·(2, 4); b: 2 − 0.5·2.
  const StepReport report = optimizer.step(std::move(closed));
  print("w after the step", model.w.master());
  print("b after the step", model.b.master());
  const nlohmann::json result{{"mean_loss", report.mean_loss},
                              {"w", model.w.master().to_vector()},
                              {"b", model.b.master().to_vector()}};
  std::printf("%s\n", result.dump().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  return examples::run_program("by_hand", [&] {
    examples::CommandLine flags("by_hand", "One cycle of a linear model, every number printed.");
    std::string device;
    flags.add_device(device);
    if (flags.parse(argc, argv)) run(examples::device_named(device));
  });
}
