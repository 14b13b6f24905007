// bench_checkpoint: writing a checkpoint against plain sequential writing, and what save() blocks
// against a plain copy, of the same bytes in the same run. See docs/performance.md.
#include <fcntl.h>
#include <omp.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "accrue/accrue.h"
#include "accrue/nn/checkpoint.h"
#include "floor.h"

using namespace accrue;
using namespace accrue::bench;

namespace {

// Sequential writes of a megabyte and one sync: what the disk takes.
double plain_write(const std::string& path, std::span<const std::byte> bytes) {
  const double start = now();
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  bool good = file >= 0;
  while (good && !bytes.empty()) {
    const ssize_t written = write(file, bytes.data(), std::min<size_t>(bytes.size(), 1 << 20));
    good = written > 0;
    if (good) bytes = bytes.subspan(static_cast<size_t>(written));
  }
  good = good && fsync(file) == 0;
  close(file);
  if (!good) throw Failure("[bench] expected to write '" + path + "', got an error");
  return now() - start;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Times checkpoints of GPT-2 124M with AdamW against the disk and a copy"};
  std::string folder = "bench_checkpoint.folder";
  int rounds = 5;
  app.add_option("--folder", folder, "on the disk to be measured; is made, and removed at the end")
      ->capture_default_str();
  app.add_option("--rounds", rounds)->check(CLI::PositiveNumber)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    Gpt model({12, 12, 768, 64, 50257});
    initialize(model, {Device::cpu()}, Seed{1});
    AdamW optimizer(parameters(model), {.lr = 1e-4});
    std::vector<double> plain, whole, blocked, copied;
    double first_block = 0, first_copy = 0;
    size_t size = 0;
    {
      Checkpoint checkpoint(folder);
      checkpoint.part("model", model).part("optimizer", optimizer);
      // Both write new files, in turns, so that a drift of the disk's speed hits both.
      for (int round = 0; round <= rounds; ++round) {
        const double start = now();
        checkpoint.save(Step{round});
        const double returned = now();
        checkpoint.wait();
        const double written = now();
        const std::string path = checkpoint.path(Step{round});
        size = std::filesystem::file_size(path);
        static std::vector<std::byte> from(size, std::byte{1});
        static const std::unique_ptr<std::byte[]> to(new std::byte[size]);  // not yet touched
        const double copy_start = now();
        std::memcpy(to.get(), from.data(), size);
        const double copy_end = now();
        const std::string other = folder + "/plain";
        const double seconds = plain_write(other, from);
        std::filesystem::remove(other);
        if (round == 0) {  // both copies touch their memory for the first time
          first_block = returned - start;
          first_copy = copy_end - copy_start;
          continue;
        }
        blocked.push_back(returned - start);
        whole.push_back(written - start);
        copied.push_back(copy_end - copy_start);
        plain.push_back(seconds);
        std::fprintf(stderr,
                     "round %d: plain %.3f s, checkpoint %.3f s, save() %.0f ms, copy %.0f ms\n",
                     round, seconds, whole.back(), blocked.back() * 1e3, copied.back() * 1e3);
      }
    }
    std::filesystem::remove_all(folder);
    const auto gigabytes = static_cast<double>(size) * 1e-9;
    std::printf("%s\n", nlohmann::json{{"threads", omp_get_max_threads()},
                                       {"bytes", size},
                                       {"plain_gb_per_second", gigabytes / median(plain)},
                                       {"checkpoint_gb_per_second", gigabytes / median(whole)},
                                       {"of_the_disk", median(plain) / median(whole)},
                                       {"save_blocks_ms", median(blocked) * 1e3},
                                       {"first_save_blocks_ms", first_block * 1e3},
                                       {"first_copy_ms", first_copy * 1e3},
                                       {"copy_ms", median(copied) * 1e3}}
                            .dump()
                            .c_str());
  } catch (const std::exception& error) {
    return std::fprintf(stderr, "bench_checkpoint: %s\n", error.what()), 1;
  }
}
