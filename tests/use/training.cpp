// Training in both forms, with a schedule, a clip and groups.
#include "accrue/nn/gpt.h"
#include "accrue/nn/loader.h"
#include "accrue/optim/optimizers.h"

using namespace accrue;

void closure(TokenLoader& loader) {
  Gpt model(GptConfig{.dropout = 0.1});
  initialize(model, {Device::cpu()}, Seed{1});
  AdamW optimizer(parameters(model), {.lr = 1e-3});
  Cycle cycle(parameters(model));
  for (const TokenBatch& batch : loader) {
    ClosedCycle closed = cycle.run(batch, {.samples = 4}, [&](const TokenBatch& micro) {
      return cross_entropy(model.hidden(micro.tokens), model.head(), micro.targets);
    });
    const StepReport report = optimizer.step(std::move(closed));
    if (report.skipped) continue;
  }
}

void by_hand(Gpt& model, TokenLoader& loader) {
  AdamW optimizer(
      parameters(model), {.lr = cosine(1e-3, Step{100}, Step{2000}, 1e-4),
                          .clip = 1.0,
                          .groups = {{"*.weight", 0.1}, {"*", 0}}});
  Cycle cycle(parameters(model));
  for (const TokenBatch& batch : loader) {
    for (const TokenBatch& micro : cycle.split(batch, {.samples = 4})) {
      MicroScope scope = cycle.begin(micro);
      scope.backward(cross_entropy(model(micro.tokens), micro.targets));
    }
    optimizer.step(cycle.close());
  }
}
