// Tokens: the same ids whether they are read from a mapped file or kept in memory.
#include "accrue/nn/tokens.h"

#include <doctest/doctest.h>

#include <array>
#include <fstream>
#include <sstream>

#include "accrue/core/error.h"
#include "core/temporary.h"

using namespace accrue;
using testing::contains;
using testing::message_of;
using testing::TemporaryFolder;
using Ids = std::vector<int32_t>;

namespace {

Ids all(const Tokens& tokens) {
  Ids ids(static_cast<size_t>(tokens.size()));
  tokens.copy(0, tokens.size(), ids.data());
  return ids;
}

}  // namespace

TEST_CASE("a file's tokens are what its tokenizer makes of its text") {
  const TemporaryFolder folder;
  for (const std::string text : {"hello\nworld", "grüße, 世界"}) {
    const std::string path = folder.write("a", text);
    for (TokenizerKind kind : {TokenizerKind::byte, TokenizerKind::character}) {
      const auto [tokens, tokenizer] = Tokens::from_file(path, kind);
      CHECK(all(tokens) == tokenizer.encode(text));
      CHECK(tokenizer.decode(all(tokens)) == text);
      CHECK(tokens.vocabulary() == tokenizer.vocabulary());
    }
  }
}

TEST_CASE("a text of wide characters is read from any place, as if its ids were in memory") {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 1000; ++i) text += std::array{"a", "é", "世", "😀"}[i * 7919 % 1009 % 4];
  const auto [mapped, tokenizer] =
      Tokens::from_file(folder.write("a", text), TokenizerKind::character);
  const Tokens kept(tokenizer.encode(text), tokenizer.vocabulary());
  REQUIRE(mapped.size() == 1000);
  REQUIRE(tokenizer.vocabulary() == 4);
  for (int64_t first = 0; first <= 1000; ++first)
    for (int64_t count : {0, 1, 2, 255, 256, 257})
      if (first + count <= 1000)
        CHECK(all(mapped.slice(first, count)) == all(kept.slice(first, count)));
  // An index of whole blocks, where nothing is left to begin another one.
  const std::string blocks = std::string(511, 'x') + "é";
  const Tokens two = Tokens::from_file(folder.write("b", blocks), TokenizerKind::character).tokens;
  CHECK(all(two.slice(510, 2)) == Ids{0, 1});
  CHECK(all(two.slice(512, 0)).empty());
}

TEST_CASE("a file that came to have fewer characters while it is read is an error") {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 400; ++i) text += "aé";
  const std::string path = folder.write("a", text);
  const Tokens tokens = Tokens::from_file(path, TokenizerKind::character).tokens;
  Ids to(100);
  tokens.copy(700, 100, to.data());
  CHECK(to[98] == 0);
  // As many bytes, fewer characters.
  std::string wider;
  for (int i = 0; i < 600; ++i) wider += "é";
  std::fstream(path, std::ios::in | std::ios::out | std::ios::binary) << wider;
  const auto reading = [&] { tokens.copy(700, 100, to.data()); };
  CHECK(contains(message_of<Failure>(reading), "leave a file as it is"));
}

TEST_CASE("every file stays mapped, while tokens of it are in use") {
  if (!std::ifstream("/proc/self/maps")) {
    MESSAGE("skipped: no /proc/self/maps here");
    return;
  }
  const auto mapped = [](const std::string& path) {
    std::ostringstream maps;
    maps << std::ifstream("/proc/self/maps").rdbuf();
    return contains(maps.str(), path);
  };
  const TemporaryFolder folder;
  const std::string ascii = folder.write("ascii", "plain"), wide = folder.write("wide", "größer");
  {
    const auto held = {Tokens::from_file(ascii, TokenizerKind::character).tokens,
                       Tokens::from_file(wide, TokenizerKind::character).tokens};
    CHECK(held.size() == 2);
    CHECK(mapped(ascii));
    CHECK(mapped(wide));
  }
  CHECK(!mapped(ascii));
  CHECK(!mapped(wide));
}

TEST_CASE("a file reads with the tokenizer of another text, or is refused for its first stranger") {
  const TemporaryFolder folder;
  const Tokenizer letters(TokenizerKind::character, "abcd");
  CHECK(all(Tokens::from_file(folder.write("a", "dab"), letters)) == Ids{3, 0, 1});
  const std::string reason =
      message_of<BadArgument>([&] { Tokens::from_file(folder.write("b", "abx"), letters); });
  CHECK(contains(reason, "'x' (U+0078) at byte 2"));
}

TEST_CASE("files that are missing, empty or not UTF-8 are refused by name or position") {
  const TemporaryFolder folder;
  const auto reading = [](const std::string& path) {
    return [=] { Tokens::from_file(path, TokenizerKind::character); };
  };
  const std::string missing = folder.file("missing");
  CHECK(contains(message_of<Failure>(reading(missing)), missing));
  const std::string empty = folder.write("empty", "");
  CHECK(contains(message_of<BadArgument>(reading(empty)), empty));
  CHECK(contains(message_of<BadArgument>(reading(folder.write("b", "a\xff"))), "at byte 1"));
}

TEST_CASE("a slice is a part of the sequence, and a part of a part") {
  const Tokens tokens({5, 6, 7, 8, 9}, 10);
  CHECK(all(tokens.slice(1, 3)) == Ids{6, 7, 8});
  CHECK(all(tokens.slice(1, 3).slice(1, 2)) == Ids{7, 8});
  CHECK(tokens.slice(5, 0).size() == 0);
  const TemporaryFolder folder;
  const Tokens mapped =
      Tokens::from_file(folder.write("a", "abcde"), Tokenizer(TokenizerKind::byte));
  CHECK(all(mapped.slice(1, 3).slice(1, 2)) == Ids{'c', 'd'});
}

TEST_CASE("reading outside the sequence or its slice is refused") {
  const Tokens tokens({5, 6, 7, 8, 9}, 10);
  int32_t to[8];
  CHECK_THROWS_AS(tokens.copy(3, 3, to), BadArgument);
  CHECK_THROWS_AS(tokens.copy(-1, 1, to), BadArgument);
  CHECK_THROWS_AS(tokens.copy(0, -1, to), BadArgument);
  CHECK_THROWS_AS(tokens.slice(1, 2).copy(1, 2, to), BadArgument);
  CHECK(contains(message_of<BadArgument>([&] { tokens.slice(2, 4); }), "within 5 tokens"));
}

TEST_CASE("ids outside the vocabulary are refused with their place") {
  CHECK(contains(message_of<BadArgument>([] { Tokens({0, 3, 1}, 3); }), "[0, 3), got 3 at 1"));
  CHECK_THROWS_AS(Tokens({-1}, 3), BadArgument);
}
