// A run that a signal stops between two micro-batches, and that goes on from there.
#include "accrue/nn/checkpoint.h"

#include <csignal>

#include "accrue/nn/gpt.h"
#include "accrue/nn/loader.h"
#include "accrue/optim/optimizers.h"

using namespace accrue;

volatile std::sig_atomic_t stop = 0;
struct Stopped {};

void train(Gpt& model, TokenLoader& loader) {
  AdamW optimizer(parameters(model));
  Cycle cycle(parameters(model), {.at_edge = [](MicroStep) {
                if (stop) throw Stopped();
              }});
  Checkpoint checkpoint("run");
  checkpoint.part("model", model).part("optimizer", optimizer);
  checkpoint.part("cycle", cycle).part("loader", loader);
  checkpoint.load();  // in mid-cycle too: run() goes on where the cycle stood
  try {
    while (cycle.step() < Step{1000}) {
      const TokenBatch batch = loader.peek();
      optimizer.step(cycle.run(batch, {.samples = 4}, [&](const TokenBatch& micro) {
        return cross_entropy(model(micro.tokens), micro.targets);
      }));
      loader.skip();
    }
  } catch (const Stopped&) {
    checkpoint.save(cycle.step(), cycle.micro_batches());
    checkpoint.wait();  // or throws what went wrong
  }
}
