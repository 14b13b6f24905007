// own_accumulator: an accumulator of one's own, chosen by name pattern, refused where it cannot
// work.
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "accrue/core/map.h"
#include "program.h"

using namespace accrue;

namespace {

// Tutorial begin
// The sum, and beside it the largest |g| that each weight has seen in the cycle.
struct Watch {
  template <class T>
  void operator()(T& sum, T& largest, T gradient) const {
    sum += gradient;
    largest = std::max(largest, std::abs(gradient));
  }
};

struct Watching final : Accumulator {
  std::string_view name() const override { return "watching"; }
  bool fused() const override { return false; }  // fold() wants a micro-batch's whole gradient
  bool whole_micro() const override { return true; }
  double error_bound(int64_t k) const override { return static_cast<double>(k - 1) * 0x1p-24; }
  std::vector<State> state(DType wide, const Shape&) const override {
    return {{"sum", wide}, {"largest", wide}};
  }
  void fold(GradBuffer& buffer, In micro, Write write) const override {
    Tensor &sum = buffer.state("sum"), &largest = buffer.state("largest");
    if (write == Write::set)  // the first of a cycle: whatever lay there is over
      for (Tensor* one : {&sum, &largest}) launch(one->device(), kernel::Fill{one->out(), 0});
    map(Watch{}, sum.device(), {sum.out(), largest.out()}, {micro});
  }
};
// Tutorial end

void run(Device device) {
  examples::require_usage(device.on_host(), "--device: expected cpu or reference, got ", device,
                          ": formulas of one's own run on the host");
  Gpt model({.layers = 1, .heads = 2, .width = 8, .context = 4, .vocabulary = 8});
  initialize(model, {device, examples::widest(device)}, Seed{1});
  const std::vector<int32_t> tokens{1, 2, 3, 4, 5, 6, 7, 0, 2, 4, 6, 0},
      targets{2, 3, 4, 5, 6, 7, 0, 1, 4, 6, 0, 2};
  const TokenBatch batch{Tensor::of<int32_t>({3, 4}, tokens, device),
                         Tensor::of<int32_t>({3, 4}, targets, device),
                         {0, 1, 2}};
  const auto watching = std::make_shared<Watching>();
  Cycle cycle(parameters(model), {.accumulate = {{"*.ln_*", watching}}});  // the rest: f32
  const ClosedCycle closed = cycle.run(batch, {.samples = 1}, [&](const TokenBatch& micro) {
    return cross_entropy(model(micro.tokens), micro.targets);
  });
  nlohmann::ordered_json rows;
  for (const GradBuffer* buffer : closed.buffers()) {
    if (buffer->accumulator().name() != "watching") continue;
    double sum = 0, largest = 0;
    for (double one : buffer->state("sum").to_vector()) sum = std::max(sum, std::abs(one));
    for (double one : buffer->state("largest").to_vector()) largest = std::max(largest, one);
    std::printf("%-28s largest |sum| %.4f, largest |g| of a micro-batch %.4f\n",
                buffer->parameter().c_str(), sum, largest);
    rows[buffer->parameter()] = {sum, largest};
  }
  std::string message;
  try {
    Cycle refused(parameters(model),
                  {.accumulate = {{"*", watching}}, .reproducible = Reproducible::ranks});
  } catch (const BadArgument& error) {
    message = error.what();
  }
  std::printf("%s\n%s\n", message.c_str(), rows.dump().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  return examples::run_tutorial(
      "own_accumulator",
      "An accumulator of one's own, on the devices whose memory the host can read.", argc, argv,
      run);
}
