// Damage at 500 random places: each is found and named, and the file before is used.
#include <doctest/doctest.h>

#include <cstring>

#include "accrue/core/philox.h"
#include "nn/checkpoint_run.h"

using namespace accrue;
using testing::contains;
using testing::flip_bit;
using testing::Run;
using testing::TemporaryFolder;

namespace {

// Two checkpoints, the second from within a cycle; damage is done to the second.
struct Damaged {
  TemporaryFolder folder;
  Run writer{folder.file("run")}, reader{folder.file("run"), 8, 2};
  std::vector<double> first, second;
  std::string newest = folder.file("run/step-1-micro-2.safetensors"), whole;

  Damaged() {
    writer.step();
    writer.save(1);
    first = writer.numbers();
    writer.part_of_cycle(2);
    writer.save(1, 2);
    second = writer.numbers();
    whole = folder.read("run/step-1-micro-2.safetensors");
  }
  void expect_first() {
    REQUIRE(reader.checkpoint.load());
    REQUIRE(reader.checkpoint.warnings().size() == 1);
    CHECK(contains(reader.checkpoint.warnings()[0], "step-1-micro-2.safetensors"));
    CHECK(reader.numbers() == first);
  }
  void expect_second() {
    REQUIRE(reader.checkpoint.load());
    CHECK(reader.checkpoint.warnings().empty());
    CHECK(reader.numbers() == second);
  }
  /// A place in the file; half of them in its header, which is the smaller part.
  size_t place(int64_t i) const {
    const auto draw = RandomKey{hash_of(17, "places"), 0}.draw(i, 0);
    uint64_t header;
    std::memcpy(&header, whole.data(), sizeof header);
    return draw[0] % (draw[1] % 2 ? whole.size() : sizeof header + header);
  }
  void restore() { folder.write("run/step-1-micro-2.safetensors", whole); }
};

}  // namespace

TEST_CASE("a bit flipped at any of 500 random places is found, and the file before is used") {
  Damaged damaged;
  damaged.expect_second();
  for (int64_t i = 0; i < 500; ++i) {
    const size_t at = damaged.place(i);
    const int bit = static_cast<int>(i % 8);
    CAPTURE(at);
    CAPTURE(bit);
    flip_bit(damaged.newest, at, bit);
    damaged.expect_first();
    flip_bit(damaged.newest, at, bit);
  }
  damaged.expect_second();
}

TEST_CASE("a file cut at any of 500 random places is found, and the file before is used") {
  Damaged damaged;
  for (int64_t i = 0; i < 500; ++i) {
    const size_t at = damaged.place(i);
    CAPTURE(at);
    std::filesystem::resize_file(damaged.newest, at);
    damaged.expect_first();
    damaged.restore();
  }
  damaged.expect_second();
}

TEST_CASE("bytes after the end and zeros inside are found as well") {
  Damaged damaged;
  std::filesystem::resize_file(damaged.newest, damaged.whole.size() + 1);
  damaged.expect_first();
  damaged.restore();
  for (int64_t i = 0; i < 50; ++i) {  // what a file system may leave after a power cut
    std::string bytes = damaged.whole;
    const size_t at = damaged.place(i) / 512 * 512;
    const size_t count = std::min<size_t>(512, bytes.size() - at);
    bytes.replace(at, count, count, '\0');
    if (bytes == damaged.whole) continue;
    damaged.folder.write("run/step-1-micro-2.safetensors", bytes);
    damaged.expect_first();
  }
}
