// Fuzz target: any bytes, read as a safetensors file and as a checkpoint, are refused with an error
// or read; they never crash. Built with fuzz_driver.cpp for ctest, or by clang alone:
//   clang++ -fsanitize=fuzzer,address … tests/stop/fuzz_files.cpp
#include <cstdlib>
#include <cstring>

#include "accrue/core/error.h"
#include "accrue/core/xxh3.h"
#include "accrue/nn/checkpoint_file.h"
#include "nn/checkpoint_run.h"

using namespace accrue;
using testing::Run;
using testing::TemporaryFolder;

namespace {

void read_safetensors(const std::string& path) {
  const SafetensorsFile file(path);
  for (const std::string& name : file.names()) {
    static volatile uint8_t sink;  // touches all that the header claims to be there
    for (const std::byte byte : file.bytes(name)) sink = static_cast<uint8_t>(byte);
    if (file.info(name).dtype) (void)file.tensor(name, Device::cpu());
  }
}

// With a checksum made for them, damaged bytes reach what lies behind its check.
void seal(std::vector<std::byte>& bytes) {
  const std::string key = text(",\"", checkpoint::checksum_key, "\":\"");
  const std::string zeros = checkpoint::checksum_placeholder();
  const std::string_view file(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const size_t found = file.find(key), place = found + key.size();
  if (found == file.npos || file.size() - place < zeros.size()) return;
  std::memcpy(bytes.data() + place, zeros.data(), zeros.size());
  const std::string sum = Xxh3().add(bytes).hex();
  std::memcpy(bytes.data() + place, sum.data(), sum.size());
}

struct Target {
  TemporaryFolder folder;
  Run run{folder.file("run")};
  std::string initial = bits();
  std::string path = folder.file("run/step-1.safetensors");

  Target() {  // a seal that no file opens with would hide all that lies behind it
    run.save(1);
    const std::string file = folder.read("run/step-1.safetensors");
    std::vector<std::byte> sealed(file.size());
    std::memcpy(sealed.data(), file.data(), file.size());
    seal(sealed);
    if (std::memcmp(sealed.data(), file.data(), file.size()) != 0) std::abort();
  }
  std::string bits() {  // numbers may be NaN, which equals nothing
    const std::vector<double> numbers = run.numbers();
    return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof numbers[0]};
  }
  void feed(std::span<const std::byte> bytes) {
    folder.write("run/step-1.safetensors",
                 {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    try {
      read_safetensors(path);
    } catch (const BadArgument&) {
    }
    try {
      run.checkpoint.load();
    } catch (const BadArgument&) {
      if (bits() != initial) std::abort();  // refused, yet something changed
    }
    initial = bits();
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Target target;
  std::vector<std::byte> bytes(size);
  if (size > 0) std::memcpy(bytes.data(), data, size);
  target.feed(bytes);
  seal(bytes);
  target.feed(bytes);
  return 0;
}
