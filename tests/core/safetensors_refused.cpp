// Files that must be refused: each differs from a good one by one lie.
// To add a case: a header, how many bytes of data follow it, and what the error must say.
#include <doctest/doctest.h>

#include <cstring>

#include "accrue/core/safetensors.h"
#include "core/temporary.h"

using namespace accrue;
using testing::contains;
using testing::message_of;
using testing::TemporaryFolder;

namespace {

std::string file_of(std::string_view header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes.append(header).append(data_bytes, '\1');
}

std::string refusal(std::string_view bytes) {
  const TemporaryFolder folder;
  const std::string path = folder.write("a", bytes);
  const std::string reason = message_of<BadArgument>([&] { SafetensorsFile file(path); });
  if (contains(reason, "[safetensors]")) CHECK(contains(reason, path));
  return reason;
}

std::string tensor(std::string_view fields) { return text("{\"x\":{", fields, "}}"); }
std::string shaped(std::string_view shape) {
  return tensor(text("\"dtype\":\"F32\",\"shape\":", shape, ",\"data_offsets\":[0,4]"));
}
std::string placed(std::string_view offsets) {
  return tensor(text("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":", offsets));
}
// u8 tensors a, b, … of these places, so that sizes always agree.
std::string several(std::initializer_list<std::pair<int, int>> places) {
  std::string header;
  char name = 'a';
  for (const auto& [begin, end] : places) {
    header += text(header.empty() ? "{\"" : ",\"", name, "\":{\"dtype\":\"U8\",\"shape\":[",
                   end - begin, "],\"data_offsets\":[", begin, ',', end, "]}");
    ++name;
  }
  return header + '}';
}

struct Lie {
  const char* what;
  std::string header;
  size_t data_bytes;
  const char* reason;
};

const std::string good = tensor(R"("dtype":"F32","shape":[1],"data_offsets":[0,4])");

}  // namespace

TEST_CASE("the good file that the refused ones differ from is read") {
  CHECK(refusal(file_of(good, 4)) == "threw nothing");
  CHECK(refusal(file_of(good + "   ", 4)) == "threw nothing");
  CHECK(refusal(file_of("{}", 0)) == "threw nothing");
  CHECK(refusal(file_of(several({{2, 5}, {0, 2}, {2, 2}}), 5)) == "threw nothing");
  CHECK(refusal(file_of(R"({"__metadata__":{"a":"b"}})", 0)) == "threw nothing");
}

TEST_CASE("files whose frame lies are refused") {
  CHECK(contains(refusal(""), "empty"));
  CHECK(contains(refusal("1234567"), "at least 8 bytes"));
  CHECK(contains(refusal(file_of(good, 4).substr(0, 20)), "truncated"));
  CHECK(contains(refusal(file_of(good, 3)), "truncated"));
  CHECK(contains(refusal(std::string(64, '\xff')), "at most 100000000"));
  std::string longer = file_of(good, 4);
  longer[0] = static_cast<char>(good.size() + 5);  // one byte beyond the file
  CHECK(contains(refusal(longer), "truncated"));
  CHECK(contains(refusal(file_of("", 0)), "begins with '{'"));
  CHECK(contains(refusal(file_of(" " + good, 4)), "begins with '{'"));
}

TEST_CASE("headers that are not the format's JSON are refused") {
  const Lie lies[] = {
      {"no JSON", "{nonsense}", 0, "of JSON"},
      {"cut JSON", good.substr(0, good.size() - 1), 4, "of JSON"},
      {"more after it", good + "x", 4, "of JSON"},
      {"invalid UTF-8", "{\"\xff\":{}}", 0, "of JSON"},
      {"a name that is no object", R"({"x":1})", 0, "an object for each name"},
      {"a name that is null", R"({"x":null})", 0, "got null"},
      {"two names alike", good.substr(0, good.size() - 1) + "," + good.substr(1), 4, "two of 'x'"},
      {"two metadata", R"({"__metadata__":{},"__metadata__":{}})", 0, "two of '__metadata__'"},
      {"two metadata keys alike", R"({"__metadata__":{"a":"","a":""}})", 0, "two of 'a'"},
      {"metadata of numbers", R"({"__metadata__":{"a":1}})", 0, "expected strings"},
      {"nested metadata", R"({"__metadata__":{"a":{"b":"c"}}})", 0, "expected strings"},
      {"two fields alike", tensor(R"("dtype":"U8","dtype":"U8")"), 0, "two of 'dtype'"},
      {"unknown field", tensor(R"("kind":"U8")"), 0, "got 'kind'"},
      {"no dtype", tensor(R"("shape":[1],"data_offsets":[0,4])"), 4, "fewer fields"},
      {"no shape", tensor(R"("dtype":"F32","data_offsets":[0,4])"), 4, "fewer fields"},
      {"no data_offsets", tensor(R"("dtype":"F32","shape":[1])"), 4, "fewer fields"},
      {"no fields", tensor(""), 0, "fewer fields"},
      {"dtype of no format", tensor(R"("dtype":"F31","shape":[1],"data_offsets":[0,4])"), 4,
       "'F31'"},
      {"dtype that is a number", tensor(R"("dtype":32)"), 4, "a string as dtype"},
      {"shape that is an object", tensor(R"("shape":{})"), 4, "got an object"},
  };
  for (const Lie& lie : lies) {
    INFO(lie.what);
    const std::string reason = refusal(file_of(lie.header, lie.data_bytes));
    CHECK_MESSAGE(contains(reason, lie.reason), reason);
  }
}

TEST_CASE("numbers that are not whole, not positive or too large are refused") {
  const Lie lies[] = {
      {"negative size", shaped("[-1]"), 4, "the number -1"},
      {"negative zero", shaped("[-0]"), 4, "the number 0"},
      {"fractional size", shaped("[1.0]"), 4, "the number 1.0"},
      {"size beyond 64 bits", shaped("[18446744073709551617]"), 4,
       "the number 18446744073709551617"},
      {"size beyond 63 bits", shaped("[18446744073709551615]"), 4, "fits 64 bits"},
      {"product beyond 64 bits", shaped("[4294967296,4294967297]"), 4, "fits 64 bits"},
      {"product that wraps to 1", shaped("[1,2305843009213693953,8]"), 4, "fits 64 bits"},
      {"huge beside nothing", shaped("[0,4294967296,4294967296]"), 4, "fits 64 bits"},
      {"seven dimensions", shaped("[1,1,1,1,1,1,1]"), 4, "at most 6 dimensions"},
      {"size in a string", shaped("[\"1\"]"), 4, "got a string"},
      {"nested size", shaped("[[1]]"), 4, "got an array"},
      {"shape that is a number", shaped("1"), 4, "an array as shape"},
      {"size other than its shape", shaped("[2]"), 4, "as far apart"},
      {"size with fewer numbers", shaped("[0]"), 4, "as far apart"},
      {"negative offset", placed("[-4,0]"), 4, "the number -4"},
      {"fractional offset", placed("[0,4.5]"), 4, "the number 4.5"},
      {"offset beyond 64 bits", placed("[0,1e30]"), 4, "the number 1e30"},
      {"one offset", placed("[4]"), 4, "two data_offsets"},
      {"three offsets", placed("[0,4,8]"), 4, "two data_offsets"},
      {"end before begin", placed("[4,0]"), 4, "begin ≤ end"},
      {"bytes that wrap", placed("[0,18446744073709551615]"), 4, "as far apart"},
      {"half a byte", tensor(R"("dtype":"F4","shape":[3],"data_offsets":[0,1])"), 1,
       "as far apart"},
  };
  for (const Lie& lie : lies) {
    INFO(lie.what);
    const std::string reason = refusal(file_of(lie.header, lie.data_bytes));
    CHECK_MESSAGE(contains(reason, lie.reason), reason);
  }
}

TEST_CASE("tensors that do not cover the data exactly are refused") {
  const Lie lies[] = {
      {"beyond the end", placed("[4,8]"), 4, "hole"},
      {"far beyond the end", placed("[18446744073709551608,18446744073709551612]"), 4, "hole"},
      {"too long", several({{0, 9}}), 8, "truncated"},
      {"the same place twice", several({{0, 4}, {0, 4}}), 4, "overlap"},
      {"partly over each other", several({{0, 4}, {3, 7}}), 7, "overlap"},
      {"one inside the other", several({{0, 8}, {2, 4}}), 8, "overlap"},
      {"empty inside another", several({{0, 8}, {2, 2}}), 8, "overlap"},
      {"hole at the beginning", several({{1, 4}}), 4, "hole"},
      {"hole in the middle", several({{0, 2}, {3, 4}}), 4, "hole"},
      {"hole at the end", several({{0, 2}}), 4, "expected 2 bytes of data"},
      {"data without tensors", "{}", 4, "expected 0 bytes of data"},
  };
  for (const Lie& lie : lies) {
    INFO(lie.what);
    const std::string reason = refusal(file_of(lie.header, lie.data_bytes));
    CHECK_MESSAGE(contains(reason, lie.reason), reason);
  }
}

TEST_CASE("a million levels of nesting and names of a million letters are refused in short") {
  const std::string deep(1'000'000, '[');
  CHECK(contains(refusal(file_of("{\"x\":" + deep, 0)), "got an array"));
  CHECK(contains(refusal(file_of(tensor("\"shape\":" + deep), 0)), "got an array"));
  std::string objects;
  for (int i = 0; i < 1'000'000; ++i) objects += "{\"x\":";
  CHECK(contains(refusal(file_of(objects, 0)), "got 'x'"));
  const std::string name(1'000'000, 'n');
  const std::string reason = refusal(file_of("{\"" + name + "\":1}", 0));
  CHECK(contains(reason, "nnn…'"));
  CHECK(reason.size() < 1000);
}

TEST_CASE("dtypes that accrue has not are listed and given as bytes, not loaded") {
  const TemporaryFolder folder;
  folder.write("a", file_of(tensor(R"("dtype":"I16","shape":[2],"data_offsets":[0,4])"), 4));
  const SafetensorsFile file(folder.file("a"));
  CHECK(file.names() == std::vector<std::string>{"x"});
  CHECK_FALSE(file.info("x").dtype.has_value());
  CHECK(file.bytes("x").size() == 4);
  const std::string reason =
      message_of<BadArgument>([&] { file.tensor("x", Device::reference()); });
  CHECK(contains(reason, "got I16"));
}
