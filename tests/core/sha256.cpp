// SHA-256 against published digests: FIPS 180-2, appendix B, and the NIST example of a million
// letters.
#include "../../examples/sha256.h"

#include <doctest/doctest.h>

#include <string_view>

using accrue::examples::Sha256;
using accrue::examples::sha256;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace

TEST_CASE("SHA-256 gives the published digests") {
  CHECK(sha256(bytes_of("abc")) ==
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha256({}) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha256(bytes_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")) ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(sha256(bytes_of(std::string(1'000'000, 'a'))) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("a digest does not depend on how the bytes are cut, at any length around a block") {
  std::string text;
  for (int length = 0; length <= 200; ++length, text += static_cast<char>(length * 7)) {
    const std::string whole = sha256(bytes_of(text));
    for (size_t cut : {size_t{1}, size_t{55}, size_t{64}, size_t{65}}) {
      Sha256 parts;
      for (size_t at = 0; at < text.size(); at += cut)
        parts.add(bytes_of(std::string_view(text).substr(at, cut)));
      CHECK_MESSAGE(parts.hex() == whole, "length ", length, ", cut by ", cut);
    }
  }
}

TEST_CASE("taking a digest does not end it") {
  Sha256 digest;
  digest.add(bytes_of("a"));
  CHECK(digest.hex() == digest.hex());
  CHECK(digest.add(bytes_of("bc")).hex() == sha256(bytes_of("abc")));
}
