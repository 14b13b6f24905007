// readme: the program that the README quotes; trains on a text file for one epoch.
#include <iostream>

#include <nlohmann/json.hpp>

#include "accrue/accrue.h"
#include "program.h"

// README begin
#include "accrue/accrue.h"
using namespace accrue;

StepReport train(const std::string& path) {
  const auto [tokens, tokenizer] = Tokens::from_file(path, TokenizerKind::character);
  TokenLoader loader(tokens,
                     {.context = 64, .batch = 12, .seed = Seed{1}, .device = Device::best()});
  Gpt model({.vocabulary = tokens.vocabulary()});
  initialize(model, {Device::best()}, Seed{1});
  AdamW optimizer(parameters(model), {.lr = 1e-3});
  Cycle cycle(parameters(model));
  StepReport report{};
  for (const TokenBatch& batch : loader)  // 12 sequences for each step, 4 of them at a time
    report = optimizer.step(cycle.run(batch, {.samples = 4}, [&](const TokenBatch& micro) {
      return cross_entropy(model.hidden(micro.tokens), model.head(), micro.targets);
    }));
  return report;
}
// README end

int main(int argc, char** argv) {
  return examples::run_program("readme", [&] {
    examples::require_usage(argc == 2, "expected a text file: readme FILE");
    const StepReport report = train(argv[1]);
    std::cout << nlohmann::json{{"steps", report.step.value}, {"train_loss", report.mean_loss}}
              << std::endl;
  });
}
