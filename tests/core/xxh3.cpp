// XXH3-128: the published values, however the bytes are cut.
#include "accrue/core/xxh3.h"

#include <doctest/doctest.h>

#include <string_view>

using namespace accrue;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

}  // namespace

TEST_CASE("the checksum has the values that xxhsum -H2 prints") {
  CHECK(Xxh3().hex() == "99aa06d3014798d86001c324468d497f");
  CHECK(Xxh3().add(bytes_of("accrue")).hex() == "674404b7c38a20ddce2ddd3aaed33e82");
}

TEST_CASE("the checksum does not depend on how the bytes are cut, and on every byte") {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += static_cast<char>(i * i % 251);
  const std::string whole = Xxh3().add(bytes_of(text)).hex();
  for (const size_t cut : {1, 16, 240, 241, 1024, 4999})
    CHECK(Xxh3().add(bytes_of(text).first(cut)).add(bytes_of(text).subspan(cut)).hex() == whole);
  for (const size_t at : {0, 2500, 4999}) {
    std::string other = text;
    other[at] ^= 1;
    CHECK(Xxh3().add(bytes_of(other)).hex() != whole);
  }
}
