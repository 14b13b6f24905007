// bench_checkpoint: writing a checkpoint against writing as many bytes by the same call, and what
// save() blocks against a plain copy. See docs/performance.md.
#include <omp.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "../examples/command_line.h"
#include "accrue/core/file.h"
#include "accrue/nn/checkpoint.h"
#include "floor.h"

using namespace accrue;
using namespace accrue::bench;

namespace {

struct Round {
  double plain, whole, blocked, copied;  // seconds
};

// What the disk takes of so many bytes, in one file that is synced.
double plain_write(const std::string& path, std::span<const std::byte> bytes) {
  const double start = now();
  write_whole(path, bytes);
  const double seconds = now() - start;
  std::filesystem::remove(path);
  return seconds;
}

class Bench {
 public:
  Bench(const std::string& folder, const GptConfig& config)
      : model_(config), folder_(folder), checkpoint_(folder) {
    initialize(model_, {Device::cpu()}, Seed{1});
    optimizer_.emplace(parameters(model_), AdamWConfig{.lr = 1e-4});
    // Moments begin as zeros, which a disk may take more cheaply.
    Visitor moments({.tensor = [](const std::string& name, Tensor& state) {
      normal(1)({state.data<float>(), static_cast<size_t>(state.elements())},
                {hash_of(1, name), 0});
    }});
    optimizer_->visit(moments);
    checkpoint_.part("model", model_).part("optimizer", *optimizer_);
    checkpoint_.save(Step{0});
    checkpoint_.wait();
    const MappedFile written(checkpoint_.path(Step{0}));
    from_.assign(written.bytes().begin(), written.bytes().end());  // the same numbers
    to_ = from_;
  }

  size_t bytes() const { return from_.size(); }
  /// In turns which of the two files is written first: what the one leaves to the disk slows the
  /// other.
  Round round(int number) {
    Round result{};
    const auto plain = [&] { result.plain = plain_write(folder_ + "/plain", from_); };
    if (number % 2 == 0) plain();
    const double start = now();
    checkpoint_.save(Step{number});
    result.blocked = now() - start;
    // Until it has its name. What wait() waits for as well, the removal of the oldest file, is not
    // timed for the plain one either.
    constexpr double hopeless = 600;  // wait() then says why
    const std::string path = checkpoint_.path(Step{number});
    while (!std::filesystem::exists(path) && now() - start < hopeless)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    result.whole = now() - start;
    checkpoint_.wait();
    if (number % 2 != 0) plain();
    const double copy = now();
    std::memcpy(to_.data(), from_.data(), from_.size());
    result.copied = now() - copy;
    return result;
  }
  /// How long a second save() waits for the first to be written.
  double behind(int number) {
    checkpoint_.save(Step{number});
    const double second = now();
    checkpoint_.save(Step{number + 1});
    const double seconds = now() - second;
    checkpoint_.wait();
    return seconds;
  }

 private:
  Gpt model_;
  std::optional<AdamW> optimizer_;
  std::string folder_;
  Checkpoint checkpoint_;
  std::vector<std::byte> from_, to_;
};

void run(int argc, char** argv) {
  examples::CommandLine flags(
      "bench_checkpoint", "Times checkpoints of GPT-2 124M with AdamW against the disk and a copy");
  std::string folder = "bench_checkpoint.folder";
  int rounds = 5;
  GptConfig config{12, 12, 768, 64, 50257};
  flags.add("--folder", folder, "on the disk to be measured; is made, and removed at the end");
  flags.add_positive("--rounds", rounds);
  flags.add_positive("--layers", config.layers, "of the model");
  flags.add_positive("--vocabulary", config.vocabulary, "of the model");
  if (!flags.parse(argc, argv)) return;
  std::vector<double> plain, whole, blocked, copied, behind, of_the_disk;
  double gigabytes = 0;
  {
    Bench bench(folder, config);
    gigabytes = static_cast<double>(bench.bytes()) * 1e-9;
    for (int i = 1; i <= rounds; ++i) {
      const Round one = bench.round(i);
      plain.push_back(one.plain);
      whole.push_back(one.whole);
      blocked.push_back(one.blocked);
      copied.push_back(one.copied);
      // Within a round, so that a slow spell of the disk falls on both.
      of_the_disk.push_back(one.plain / one.whole);
      std::fprintf(stderr,
                   "round %d: plain %.3f s, checkpoint %.3f s, save() %.0f ms, copy %.0f ms\n", i,
                   one.plain, one.whole, one.blocked * 1e3, one.copied * 1e3);
    }
    // After the others, because two saves in a row keep the disk busy for the next.
    for (int i = 1; i <= 3; ++i) behind.push_back(bench.behind(rounds + 2 * i));
  }
  std::filesystem::remove_all(folder);
  std::printf("%s\n", nlohmann::json{{"threads", omp_get_max_threads()},
                                     {"gigabytes", gigabytes},
                                     {"plain_gb_per_second", gigabytes / median(plain)},
                                     {"checkpoint_gb_per_second", gigabytes / median(whole)},
                                     {"of_the_disk", median(of_the_disk)},
                                     {"of_the_disk_by_round", of_the_disk},
                                     {"save_blocks_ms", median(blocked) * 1e3},
                                     {"save_behind_another_ms", median(behind) * 1e3},
                                     {"copy_ms", median(copied) * 1e3}}
                          .dump()
                          .c_str());
}

}  // namespace

int main(int argc, char** argv) {
  return examples::run_program("bench_checkpoint", [&] { run(argc, argv); });
}
