// The safetensors Python package reads our files and we its. Needs it and NumPy in the Python named
// by the environment variable ACCRUE_PYTHON (default: python3); without them the test says so.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <limits>

#include "accrue/core/safetensors.h"
#include "core/temporary.h"

using namespace accrue;
using testing::TemporaryFolder;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

std::string python() {
  const char* chosen = std::getenv("ACCRUE_PYTHON");
  return chosen ? chosen : "python3";
}

bool has_package() {
  return std::system((python() + " -c 'import safetensors.numpy' 2>/dev/null").c_str()) == 0;
}

int peer(const std::string& action, const std::string& path) {
  const auto script =
      std::filesystem::path(ACCRUE_SOURCE_DIR) / "tests" / "core" / "safetensors_peer.py";
  const std::string command = python() + " '" + script.string() + "' " + action;
  return std::system((command + " '" + path + "'").c_str());
}

template <class T>
Tensor of(const Shape& shape, std::initializer_list<T> values) {
  return Tensor::of<T>(shape, std::span(values.begin(), values.size()), Device::reference());
}

// The same numbers as in safetensors_peer.py.
const std::map<std::string, std::string> metadata{{"maker", "peer"},
                                                  {"größe", "a \"quoted\"\nline"}};
std::vector<std::pair<std::string, Tensor>> arrays() {
  using i32 = std::numeric_limits<int32_t>;
  using i64 = std::numeric_limits<int64_t>;
  return {
      {"f32", of<float>({2, 3}, {1, -2.5, 3, 0, 1e-30f, -7})},
      {"f64", of<double>({2}, {1e300, -0.1})},
      {"f16", of<Float16>({3}, {Float16(65504.f), Float16(-0x1p-24f), Float16(-infinity)})},
      {"i32", of<int32_t>({2}, {i32::min(), i32::max()})},
      {"i64", of<int64_t>({2}, {i64::min(), i64::max()})},
      {"u8", of<uint8_t>({5}, {0, 1, 2, 3, 4})},
      {"scalar", of<float>({}, {4.5})},
      {"empty", of<float>({0, 4}, {})},
      {"wörter/λ", of<float>({2, 1}, {1, 2})},
  };
}

}  // namespace

TEST_CASE("the safetensors package reads what we write") {
  if (!has_package()) {
    MESSAGE("skipped: no safetensors package in ", python(), "; set ACCRUE_PYTHON");
    return;
  }
  const TemporaryFolder folder;
  auto tensors = arrays();
  tensors.emplace_back("transposed", tensors[0].second.transpose(0, 1));
  tensors.emplace_back("bf16",
                       of<BFloat16>({3}, {BFloat16(1.5f), BFloat16(-2.f), BFloat16(infinity)}));
  write_safetensors(folder.file("ours"), tensors, metadata);
  CHECK(peer("read", folder.file("ours")) == 0);
  write_safetensors(folder.file("other"), {tensors[0]}, metadata);
  CHECK(peer("2>/dev/null read", folder.file("other")) != 0);  // it does look at what it reads
}

TEST_CASE("we read what the safetensors package writes") {
  if (!has_package()) {
    MESSAGE("skipped: no safetensors package in ", python(), "; set ACCRUE_PYTHON");
    return;
  }
  const TemporaryFolder folder;
  REQUIRE(peer("write", folder.file("theirs")) == 0);
  const SafetensorsFile file(folder.file("theirs"));
  CHECK(file.metadata() == metadata);
  for (const auto& [name, expected] : arrays()) {
    INFO(name);
    const Tensor got = file.tensor(name, Device::reference());
    CHECK(got.dtype() == expected.dtype());
    CHECK(got.shape() == expected.shape());
    const auto* bytes = static_cast<const std::byte*>(expected.in().data);
    CHECK(std::ranges::equal(file.bytes(name), std::span(bytes, expected.bytes())));
  }
  CHECK_THROWS_AS(file.tensor("truth", Device::reference()), BadArgument);
  const Tensor bf16 =
      SafetensorsFile(folder.file("theirs-bf16")).tensor("bf16", Device::reference());
  CHECK(bf16.dtype() == DType::bf16);
  CHECK(bf16.to_vector() == std::vector<double>{1.5, -2, infinity});
}
