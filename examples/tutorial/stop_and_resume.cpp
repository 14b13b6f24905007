// stop_and_resume: a run that is stopped within a cycle, loaded by another, and ends with the same
// bits; and a damaged checkpoint, which is named and passed over.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "accrue/core/xxh3.h"
#include "accrue/nn/checkpoint.h"
#include "program.h"

using namespace accrue;
namespace fs = std::filesystem;

namespace {

struct Stop {};

// All that a run is made of. Two of these know nothing of each other but the folder.
struct Run {
  Gpt model;
  AdamW optimizer;
  TokenLoader loader;
  int64_t stop_after = -1;  // micro-batches of this process; −1: never
  Cycle cycle;
  Checkpoint checkpoint;

  static Gpt made(Device device) {
    Gpt model(
        {.layers = 1, .heads = 2, .width = 16, .context = 8, .vocabulary = 16, .dropout = 0.1});
    initialize(model, {device}, Seed{1});
    return model;
  }
  static Tokens words() {
    std::vector<int32_t> ids;
    for (int32_t i = 0; i < 400; ++i) ids.push_back((i * i + i / 7) % 16);
    return Tokens(ids, 16);
  }
  Run(const fs::path& folder, Device device)
      : model(made(device)),
        optimizer(parameters(model), {.lr = 1e-2}),
        loader(words(), {.context = 8, .batch = 6, .seed = Seed{2}, .device = device}),
        cycle(parameters(model), {.accumulate = accumulators::parse("kahan"),
                                  .at_edge =
                                      [this](MicroStep) {
                                        if (--stop_after == 0) throw Stop();
                                      }}),
        checkpoint(folder.string()) {
    checkpoint.part("model", model)
        .part("optimizer", optimizer)
        .part("cycle", cycle)
        .part("loader", loader);
  }

  // Steps until `last`. The loader moves on only when the batch is done: a checkpoint from within
  // the cycle then leads to the same batch again.
  void train(Step last) {
    while (cycle.step() < last) {
      const TokenBatch batch = loader.peek();
      optimizer.step(cycle.run(batch, {.samples = 2}, [this](const TokenBatch& micro) {
        return cross_entropy(model(micro.tokens), micro.targets);
      }));
      loader.skip();
    }
  }
  std::string hash() const {
    Xxh3 hash;
    for (const auto& one : parameters(model).list) {
      std::vector<std::byte> bytes(one->master.bytes());
      one->master.copy_to_host(bytes.data());
      hash.add(bytes);
    }
    return hash.hex().substr(0, 16);
  }
  std::string where() const {
    return accrue::text(cycle.step().value, " steps and ", cycle.micro_batches().value,
                        " micro-batches");
  }
};

// As a bad disk would.
void flip_a_bit(const fs::path& path) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(-100, std::ios::end);
  const char byte = static_cast<char>(file.peek() ^ 1);
  file.seekp(-100, std::ios::end);
  file.put(byte);
}

void run(Device device) {
  const fs::path folder =
      fs::temp_directory_path() / ("accrue-tutorial-" + std::to_string(getpid()));
  struct Remove {
    fs::path folder;
    ~Remove() { fs::remove_all(folder); }
  } const remove{folder};

  Run whole(folder / "never", device);
  whole.train(Step{4});
  std::printf("never stopped:   %s\n", whole.where().c_str());

  {
    Run first(folder, device);
    first.train(Step{1});
    first.checkpoint.save(first.cycle.step());
    first.stop_after = 5;  // three of the second cycle, two of the third
    try {
      first.train(Step{4});
    } catch (const Stop&) {
      first.checkpoint.save(first.cycle.step(), first.cycle.micro_batches());
    }
    first.checkpoint.wait();
    std::printf("stopped after:   %s\n", first.where().c_str());
  }
  for (const auto& name : {"step-1.safetensors", "step-2-micro-2.safetensors"})
    std::printf("in the folder:   %s%s\n", name, fs::exists(folder / name) ? "" : " is missing");

  Run second(folder, device);
  second.checkpoint.load();
  std::printf("resumed at:      %s\n", second.where().c_str());
  second.train(Step{4});
  std::printf("same bits:       %s\n", second.hash() == whole.hash() ? "yes" : "no");

  flip_a_bit(folder / "step-2-micro-2.safetensors");
  Run third(folder, device);
  third.checkpoint.load();
  std::printf("one bit flipped: %zu file passed over, resumed at %s\n",
              third.checkpoint.warnings().size(), third.where().c_str());
  third.train(Step{4});
  std::printf("same bits:       %s\n", third.hash() == whole.hash() ? "yes" : "no");
  const bool same = second.hash() == whole.hash() && third.hash() == whole.hash();
  std::printf("%s\n",
              nlohmann::json{{"same_bits", same}, {"weights", whole.hash()}}.dump().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  return examples::run_tutorial(
      "stop_and_resume",
      "A run that is stopped within a cycle, resumed, and ends with the same bits.", argc, argv,
      run);
}
