// Feeds the fuzz target with real files and seeded mutations of them, as many as the command line
// says: for compilers without libFuzzer, and for a bounded test.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

#include "accrue/core/safetensors.h"
#include "nn/checkpoint_run.h"

using accrue::testing::Run;
using accrue::testing::TemporaryFolder;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::string;

std::vector<Bytes> corpus() {
  const TemporaryFolder folder;
  Run run(folder.file("run"));
  run.step();
  run.save(1);
  run.part_of_cycle(2);
  run.save(1, 2);
  accrue::write_safetensors(
      folder.file("small"),
      {{"a", accrue::Tensor::scalar(1, accrue::DType::f32, accrue::Device::cpu())},
       {"b", accrue::Tensor::scalar(2, accrue::DType::bf16, accrue::Device::reference())}},
      {{"key", "value"}});
  return {folder.read("run/step-1.safetensors"), folder.read("run/step-1-micro-2.safetensors"),
          folder.read("small")};
}

class Mutator {
 public:
  explicit Mutator(uint32_t seed) : engine_(seed) {}

  Bytes mutate(Bytes bytes) {
    for (uint32_t times = 1 + below(4); times > 0; --times) once(bytes);
    return bytes;
  }
  uint32_t below(size_t bound) {
    return static_cast<uint32_t>(engine_() % std::max<size_t>(bound, 1));
  }

 private:
  // Half of all places lie in the header: its few bytes decide about all others.
  size_t place(const Bytes& bytes) {
    uint64_t header = 0;
    if (bytes.size() >= sizeof header) std::memcpy(&header, bytes.data(), sizeof header);
    const bool inside = below(2) == 0 && header < bytes.size();
    return below(inside ? header + sizeof header : bytes.size());
  }
  void once(Bytes& bytes) {
    static const char* const words[] = {"0",
                                        "-1",
                                        "18446744073709551615",
                                        "9223372036854775807",
                                        "1e999",
                                        "\"",
                                        "{",
                                        "}",
                                        "[",
                                        "]",
                                        ",",
                                        ":",
                                        "null",
                                        "[]",
                                        "{}",
                                        "\\u0000",
                                        "\"F32\"",
                                        "\"U8\"",
                                        "\"data_offsets\":[0,0]",
                                        "\"__metadata__\":{}",
                                        "\xff",
                                        "2305843009213693952"};
    const size_t at = place(bytes), count = 1 + below(16);
    switch (below(7)) {
      case 0:
        if (at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ 1 << below(8));
        break;
      case 1:
        if (at < bytes.size()) bytes[at] = static_cast<char>(below(256));
        break;
      case 2:
        bytes.resize(at);
        break;
      case 3:
        bytes.erase(at, count);
        break;
      case 4:
        bytes.insert(at, bytes.substr(place(bytes), count));
        break;
      case 5:
        bytes.insert(at, words[below(std::size(words))]);
        break;
      case 6: {
        const std::string word = words[below(std::size(words))];
        if (at < bytes.size()) bytes.replace(at, word.size(), word);
        break;
      }
    }
    if (below(2) == 0) repair_length(bytes);
  }
  // Most changes of a header's length would otherwise end at the first check.
  static void repair_length(Bytes& bytes) {
    uint64_t length = bytes.find("}}");
    if (length == Bytes::npos || bytes.size() < sizeof length) return;
    length = bytes.find_first_not_of(" }", length);
    length = (length == Bytes::npos ? bytes.size() : length) - sizeof length;
    std::memcpy(bytes.data(), &length, sizeof length);
  }

  std::mt19937 engine_;
};

}  // namespace

int main(int argc, char** argv) {
  const long inputs = argc == 2 ? std::atol(argv[1]) : 0;
  if (inputs < 1) return std::fprintf(stderr, "usage: fuzz_files INPUTS\n"), 2;
  const std::vector<Bytes> seeds = corpus();
  Mutator mutator(20240917);
  for (long i = 0; i < inputs; ++i) {
    const Bytes& seed = seeds[static_cast<size_t>(i) % seeds.size()];
    const Bytes bytes = i < static_cast<long>(seeds.size()) ? seed : mutator.mutate(seed);
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  }
  std::printf("%ld inputs\n", inputs);
}
