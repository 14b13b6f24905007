// readme: the program that the README quotes; trains on a text file for one epoch.
#include <iostream>

#include <nlohmann/json.hpp>

#include "accrue/accrue.h"
#include "command_line.h"

using namespace accrue;

StepReport train(const std::string& path, Device device) {
  StepReport report{};
  // README begin
  const auto [tokens, tokenizer] = Tokens::from_file(path, TokenizerKind::character);
  TokenLoader loader(tokens, {.context = 64, .batch = 12, .seed = Seed{1}, .device = device});
  Gpt model({.vocabulary = tokens.vocabulary()});
  initialize(model, {device}, Seed{1});
  AdamW optimizer(parameters(model), {.lr = 1e-3});
  Cycle cycle(parameters(model));
  for (const TokenBatch& batch : loader)  // 12 sequences for each step, 4 of them at a time
    report = optimizer.step(cycle.run(batch, {.samples = 4}, [&](const TokenBatch& micro) {
      return cross_entropy(model.hidden(micro.tokens), model.head(), micro.targets);
    }));
  // README end
  return report;
}

int main(int argc, char** argv) {
  return examples::run_program("readme", [&] {
    std::string file, device;
    examples::CommandLine flags("readme", "Trains a GPT on a text for one epoch.");
    flags.add_required("FILE", file, "A text file");
    flags.add_device(device);
    if (!flags.parse(argc, argv)) return;
    const StepReport report = train(file, examples::device_named(device));
    std::cout << nlohmann::json{{"steps", report.step.value}, {"train_loss", report.mean_loss}}
              << std::endl;
  });
}
