#include "engine.h"

#include "floor.h"

namespace accrue::bench {
namespace {

// Every kernel of the cpu backend replaced by one that does nothing and needs no workspace.
const Backend& idle_backend() {
  static const Backend backend = [] {
    Backend b = *Device::cpu().backend;
    std::apply(
        []<class... Args>(Kernel<Args>&... kernel) {
          ((kernel = {nullptr, [](const Args&, void*) {}}), ...);
        },
        b.kernels);
    return b;
  }();
  return backend;
}

}  // namespace

EngineCost engine_cost(int64_t micro_batches) {
  const Device device{&idle_backend()};
  const GptConfig config{
      .layers = 12, .heads = 12, .width = 768, .context = 64, .vocabulary = 50257};
  Gpt model(config);
  {
    // Shapes are all that matters here: no memory is filled, no numbers are drawn.
    const ModeScope dry(Mode::dry);
    initialize(model, {device}, Seed{1});
  }
  Cycle cycle(parameters(model));
  const TokenBatch batch = random_batch(config, micro_batches, device);
  EngineCost cost{};
  std::vector<double> seconds;
  for (int round = 0; round < 6; ++round) {
    const double start = now();
    const ClosedCycle closed = cycle.run(batch, {.samples = 1}, [&](const TokenBatch& micro) {
      const Loss loss = cross_entropy(model.hidden(micro.tokens), model.head(), micro.targets);
      cost.operations = Tape::current()->size();
      return loss;
    });
    if (round > 0) seconds.push_back(now() - start);
  }
  cost.microseconds = median(seconds) * 1e6 / static_cast<double>(micro_batches) /
                      static_cast<double>(cost.operations);
  return cost;
}

}  // namespace accrue::bench
