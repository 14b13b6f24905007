// Checkpoints of models on memory that the host cannot address, and between devices.
#include <fstream>

#include "accrue/core/safetensors.h"
#include "core/temporary.h"
#include "remote/training.h"

namespace accrue::test {
namespace {

using testing::TemporaryFolder;

/// Saves after one cycle and two micro-batches of the next. Returns what an uninterrupted run has.
std::string interrupted(Device device, const Choice& choice, const std::string& folder) {
  Training training(device, choice);
  Checkpoint checkpoint(folder);
  training.parts(checkpoint);
  training.step();
  training.begin_cycle(2);
  checkpoint.save(training.cycle.step(), training.cycle.micro_batches());
  checkpoint.wait();
  training.step(), training.step();
  return training.bits();
}

std::string resumed(Device device, const Choice& choice, const std::string& folder) {
  Training training(device, choice);
  Checkpoint checkpoint(folder);
  training.parts(checkpoint);
  REQUIRE(checkpoint.load());
  CHECK(training.cycle.micro_batches() == MicroStep{2});
  training.step(), training.step();
  return training.bits();
}

std::string file_in(const std::string& folder) {
  std::ifstream file(std::filesystem::directory_iterator(folder)->path(), std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("saved in mid-cycle on one device and resumed on another: the same files and bits") {
  for (const Choice& choice : choices()) {
    INFO(choice.name);
    const TemporaryFolder here, there;
    const std::string a = interrupted(Device::reference(), choice, here.path());
    const std::string b = interrupted(remote(), choice, there.path());
    CHECK(a == b);
    CHECK(file_in(here.path()) == file_in(there.path()));
    for (const Device device : {Device::reference(), remote()}) {
      CHECK(resumed(device, choice, here.path()) == a);
      CHECK(resumed(device, choice, there.path()) == a);
    }
  }
}

TEST_CASE("safetensors: tensors on remote, views too, go into files and come back") {
  const TemporaryFolder folder;
  const std::vector<int64_t> numbers{(int64_t{1} << 53) + 1, 1, 2, 3, 4, 5};
  const Tensor whole = Tensor::of<int64_t>({2, 3}, numbers, remote());
  const std::string path = folder.file("one.safetensors");
  write_safetensors(path, {{"whole", whole}, {"turned", whole.transpose(0, 1)}});
  const SafetensorsFile file(path);
  CHECK(bits_of(file.tensor("whole", remote())) == bits_of(whole));
  CHECK(bits_of(file.tensor("turned", Device::cpu())) == bits_of(whole.transpose(0, 1)));
  Tensor other = Tensor::of<int64_t>({3, 2}, numbers, remote());
  Tensor view = other.transpose(0, 1);
  file.load("whole", view);
  CHECK(bits_of(view) == bits_of(whole));
}

}  // namespace accrue::test
