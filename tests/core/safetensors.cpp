// safetensors files: what we write comes back, in the layout that the format prescribes.
#include "accrue/core/safetensors.h"

#include <doctest/doctest.h>

#include <cstring>
#include <limits>

#include "accrue/core/mode.h"
#include "core/temporary.h"

using namespace accrue;
using testing::contains;
using testing::message_of;
using testing::TemporaryFolder;

namespace {

template <class T>
Tensor of(const Shape& shape, std::initializer_list<T> values) {
  return Tensor::of<T>(shape, std::span(values.begin(), values.size()), Device::reference());
}

template <class T>
std::vector<T> stored(const SafetensorsFile& file, const std::string& name) {
  std::vector<T> values(file.bytes(name).size() / sizeof(T));
  std::memcpy(values.data(), file.bytes(name).data(), file.bytes(name).size());
  return values;
}

}  // namespace

TEST_CASE("tensors of every dtype come back with shape, dtype and bits") {
  const TemporaryFolder folder;
  const int64_t large = std::numeric_limits<int64_t>::max() - 1;  // no f64 has it
  const std::map<std::string, std::string> metadata{{"step", "3"}, {"quote\"", "ä\n"}};
  write_safetensors(folder.file("a"),
                    {{"f32", of<float>({2, 2}, {1, -2, 3.5f, 0})},
                     {"f64", of<double>({1}, {1e300})},
                     {"bf16", of<BFloat16>({2}, {BFloat16(1.5f), BFloat16(-2.f)})},
                     {"f16", of<Float16>({2}, {Float16(65504.f), Float16(-0x1p-24f)})},
                     {"i32", of<int32_t>({3}, {-1, 0, 7})},
                     {"i64", of<int64_t>({1, 1}, {large})},
                     {"u8", of<uint8_t>({3, 1}, {0, 128, 255})},
                     {"scalar", of<float>({}, {5})},
                     {"empty", of<float>({0, 4}, {})}},
                    metadata);
  const SafetensorsFile file(folder.file("a"));
  CHECK(file.metadata() == metadata);
  CHECK(file.names().size() == 9);
  const Device device = Device::reference();
  CHECK(file.tensor("f32", device).to_vector() == std::vector<double>{1, -2, 3.5, 0});
  CHECK(file.tensor("f32", device).shape() == Shape{2, 2});
  CHECK(file.tensor("f64", device).item() == 1e300);
  CHECK(file.tensor("bf16", device).to_vector() == std::vector<double>{1.5, -2});
  CHECK(file.tensor("bf16", device).dtype() == DType::bf16);
  CHECK(file.tensor("i32", device).to_vector() == std::vector<double>{-1, 0, 7});
  CHECK(*file.tensor("i64", device).data<int64_t>() == large);
  CHECK(stored<uint8_t>(file, "u8") == std::vector<uint8_t>{0, 128, 255});
  CHECK(file.info("scalar").shape == Shape{});
  CHECK(*file.tensor("scalar", device).data<float>() == 5);
  CHECK(file.tensor("empty", device).shape() == Shape{0, 4});
  CHECK(file.info("bf16").bytes == 4);
  CHECK(file.info("bf16").stored == "BF16");
  CHECK(file.tensor("f16", device).to_vector() == std::vector<double>{65504, -0x1p-24});
  CHECK(file.tensor("f16", device).dtype() == DType::f16);
  CHECK(file.info("f16").stored == "F16");
  CHECK(file.contains("u8"));
  CHECK_FALSE(file.contains("u9"));
}

TEST_CASE("strided tensors are written row-major and loaded into any strides") {
  const TemporaryFolder folder;
  const Tensor matrix = of<float>({2, 3}, {1, 2, 3, 4, 5, 6});
  const int64_t large = (int64_t{1} << 60) + 1;  // no f64 has it
  const Tensor longs = of<int64_t>({2, 2}, {large, 2, 3, 4});
  write_safetensors(folder.file("a"), {{"transposed", matrix.transpose(0, 1)},
                                       {"columns", matrix.slice(1, 1, 2)},
                                       {"rows", matrix.slice(1, 1)},
                                       {"expanded", matrix.slice(1, 0, 1).expand({2, 2})},
                                       {"longs", longs.transpose(0, 1)}});
  const SafetensorsFile file(folder.file("a"));
  CHECK(stored<float>(file, "transposed") == std::vector<float>{1, 4, 2, 5, 3, 6});
  CHECK(stored<float>(file, "columns") == std::vector<float>{2, 3, 5, 6});
  CHECK(stored<float>(file, "rows") == std::vector<float>{4, 5, 6});
  CHECK(stored<float>(file, "expanded") == std::vector<float>{1, 1, 4, 4});
  CHECK(stored<int64_t>(file, "longs") == std::vector<int64_t>{large, 3, 2, 4});

  Tensor into = of<float>({2, 3}, {0, 0, 0, 0, 0, 0});
  Tensor view = into.transpose(0, 1);
  file.load("transposed", view);
  CHECK(into.to_vector() == matrix.to_vector());
}

TEST_CASE("the header is padded to 8 bytes and wider dtypes come first, then names") {
  const TemporaryFolder folder;
  const Tensor byte = of<uint8_t>({1}, {1}), word = of<float>({1}, {1});
  write_safetensors(folder.file("a"),
                    {{"a", byte}, {"c", word}, {"b", word}, {"d", of<int64_t>({1}, {1})}},
                    {{"k", "v"}});
  const std::string bytes = folder.read("a");
  uint64_t length;
  std::memcpy(&length, bytes.data(), 8);
  CHECK(length % 8 == 0);
  CHECK(bytes.size() == 8 + length + 8 + 4 + 4 + 1);
  const SafetensorsFile file(folder.file("a"));
  CHECK(file.names() == std::vector<std::string>{"d", "b", "c", "a"});
  CHECK(contains(bytes, R"({"__metadata__":{"k":"v"},"d":)"));
}

TEST_CASE("loading needs the file's shape and dtype, and says both") {
  const TemporaryFolder folder;
  write_safetensors(folder.file("a"), {{"x", of<float>({2, 1}, {1, 2})}});
  const SafetensorsFile file(folder.file("a"));
  Tensor wrong_shape({1, 2}, DType::f32, Device::reference());
  const std::string shapes = message_of<BadArgument>([&] { file.load("x", wrong_shape); });
  CHECK(contains(shapes, "f32[1, 2]"));
  CHECK(contains(shapes, "f32[2, 1]"));
  Tensor wrong_dtype({2, 1}, DType::i32, Device::reference());
  const std::string dtypes = message_of<BadArgument>([&] { file.load("x", wrong_dtype); });
  CHECK(contains(dtypes, "i32[2, 1]"));
  CHECK(contains(message_of<BadArgument>([&] { file.info("y"); }), "'y'"));
}

TEST_CASE("a dry run loads shapes and no numbers") {
  const TemporaryFolder folder;
  write_safetensors(folder.file("a"), {{"x", of<float>({2}, {1, 2})}});
  const SafetensorsFile file(folder.file("a"));
  const ModeScope dry(Mode::dry);
  const Tensor tensor = file.tensor("x", Device::reference());
  CHECK(tensor.shape() == Shape{2});
  CHECK(tensor.data<float>() == nullptr);
  CHECK_THROWS_AS(write_safetensors(folder.file("b"), {{"x", tensor}}), BadArgument);
}

TEST_CASE("names that the format cannot hold are refused before anything is written") {
  const TemporaryFolder folder;
  const Tensor one = of<float>({1}, {1}), other = of<int64_t>({1}, {1});
  const auto write = [&](const std::vector<std::pair<std::string, Tensor>>& tensors) {
    return message_of<BadArgument>([&] { write_safetensors(folder.file("a"), tensors); });
  };
  CHECK(contains(write({{"x", one}, {"x", other}}), "two of 'x'"));
  CHECK(contains(write({{"__metadata__", one}}), "free name"));
  CHECK(contains(write({{"\xff", one}}), "UTF-8"));
  CHECK(contains(write({{"x", Tensor()}}), "memory"));
  CHECK(folder.files() == 0);
}
