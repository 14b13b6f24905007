// A small run with every kind of part, for the tests of checkpoints.
#pragma once
#include "accrue/nn/checkpoint.h"
#include "accrue/nn/gpt.h"
#include "accrue/nn/loader.h"
#include "accrue/optim/optimizers.h"
#include "core/temporary.h"

namespace accrue::testing {

struct Extras {
  int64_t number = 0;
  std::string words;
  Tensor tensor = Tensor::scalar(0, DType::f64, Device::cpu());
  void visit(Visitor& part) {
    part("number", number);
    part("words", words);
    part("tensor", tensor);
  }
};

/// A run with every kind of part: dropout sites, two moments, a folded accumulator, a position.
struct Run {
  Gpt model;
  AdamW optimizer;
  Cycle cycle;
  TokenLoader loader;
  Extras extras;
  Checkpoint checkpoint;

  static Gpt make(int64_t width, int64_t seed) {
    Gpt model(
        {.layers = 1, .heads = 2, .width = width, .context = 4, .vocabulary = 5, .dropout = 0.2});
    initialize(model, {Device::cpu()}, Seed{seed});
    return model;
  }
  static Tokens tokens() {
    std::vector<int32_t> ids;
    for (int i = 0; i < 200; ++i) ids.push_back(i * i % 5);
    return {ids, 5};
  }

  explicit Run(const std::string& folder, int64_t width = 8, int64_t seed = 1,
               const char* accumulator = "kahan")
      : model(make(width, seed)),
        optimizer(parameters(model), {.lr = 1e-2}),
        cycle(parameters(model), {.accumulate = accumulators::parse(accumulator)}),
        loader(tokens(), {.context = 4, .batch = 4, .seed = Seed{3}, .device = Device::cpu()}),
        checkpoint(folder) {
    checkpoint.part("model", model).part("optimizer", optimizer).part("cycle", cycle);
    checkpoint.part("loader", loader).part("extras", extras);
  }
  /// Saves under a made-up position, and waits.
  void save(int64_t step, int64_t micro = 0) {
    checkpoint.save(Step{step}, MicroStep{micro});
    checkpoint.wait();
  }
  Loss loss(const TokenBatch& micro) const {
    return cross_entropy(model(micro.tokens), micro.targets);
  }
  void step() {
    optimizer.step(
        cycle.run(loader.next(), {.samples = 3}, [&](const auto& m) { return loss(m); }));
  }
  /// The first `micros` micro-batches of a cycle.
  void part_of_cycle(int64_t micros) {
    const std::vector<TokenBatch> all = cycle.split(loader.peek(), {.samples = 1});
    for (int64_t i = 0; i < micros; ++i) {
      MicroScope scope = cycle.begin(all[i]);
      scope.backward(loss(all[i]));
    }
  }
  /// All numbers of all parts, to compare runs to the bit.
  std::vector<double> numbers() {
    std::vector<double> all;
    const auto append = [&](const Tensor& tensor) {
      const std::vector<double> some = tensor.to_vector();
      all.insert(all.end(), some.begin(), some.end());
    };
    Visitor visitor(
        {.parameter = [&](const std::string&, Parameter& part) { append(part.master()); },
         .site = [&](const std::string&,
                     RandomSite& site) { all.push_back(static_cast<double>(site.seed.value)); },
         .tensor = [&](const std::string&, Tensor& part) { append(part); },
         .integer = [&](const std::string&,
                        int64_t& part) { all.push_back(static_cast<double>(part)); },
         .text = [&](const std::string&,
                     std::string& part) { all.insert(all.end(), part.begin(), part.end()); }});
    visitor("model", model), visitor("optimizer", optimizer), visitor("cycle", cycle);
    visitor("loader", loader), visitor("extras", extras);
    return all;
  }
};

inline void flip_bit(const std::string& path, size_t byte, int bit = 2) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(byte));
  const char flipped = static_cast<char>(file.get() ^ 1 << bit);
  file.seekp(static_cast<std::streamoff>(byte));
  file.put(flipped);
}

}  // namespace accrue::testing
