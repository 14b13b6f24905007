// Tokenizers: there and back, and what is refused.
#include "accrue/nn/tokenizer.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "accrue/core/error.h"
#include "core/temporary.h"

using namespace accrue;
using testing::contains;
using testing::message_of;
using Ids = std::vector<int32_t>;

TEST_CASE("characters are numbered in the order of their code points") {
  const Tokenizer tokenizer(TokenizerKind::character, "bαab\n");
  CHECK(tokenizer.vocabulary() == 4);
  CHECK(tokenizer.encode("\nabα") == Ids{0, 1, 2, 3});
  CHECK(tokenizer.decode(Ids{3, 1, 2, 2}) == "αabb");
  CHECK(tokenizer.encode("").empty());
}

TEST_CASE("characters of every length in UTF-8 come back, to the first and last of each") {
  const std::string text("\0\x7f\u0080\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff", 26);
  const Tokenizer tokenizer(TokenizerKind::character, text);
  CHECK(tokenizer.vocabulary() == 10);
  CHECK(tokenizer.encode(text) == Ids{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
}

TEST_CASE("text that is not UTF-8 is refused with the byte's position") {
  const std::string broken[] = {
      "ab\x80",              // a continuation alone
      "ab\xc3",              // cut off at the end
      "ab\xc3z",             // cut off by a letter
      "ab\xe2\x82",          // two of three
      "ab\xf0\x9f\x98",      // three of four
      "ab\xc0\x80",          // overlong zero
      "ab\xe0\x9f\xbf",      // overlong, three bytes
      "ab\xf0\x8f\xbf\xbf",  // overlong, four bytes
      "ab\xed\xa0\x80",      // a surrogate
      "ab\xf4\x90\x80\x80",  // beyond U+10FFFF
      "ab\xf8\x88\x80\x80",  // no first byte
      "ab\xff",
  };
  const Tokenizer tokenizer(TokenizerKind::character, "ab");
  for (const std::string& text : broken) {
    const auto expected = [](const std::string& reason) {
      CHECK_MESSAGE(contains(reason, "expected UTF-8"), reason);
      CHECK_MESSAGE(contains(reason, "at byte 2,"), reason);
    };
    expected(message_of<BadArgument>([&] { Tokenizer(TokenizerKind::character, text); }));
    expected(message_of<BadArgument>([&] { tokenizer.encode(text); }));
  }
}

TEST_CASE("an unknown character is named with its position, an unknown id with the range") {
  const Tokenizer tokenizer(TokenizerKind::character, "abc");
  const std::string reason = message_of<BadArgument>([&] { tokenizer.encode("abé"); });
  CHECK(contains(reason, "'é' (U+00E9) at byte 2"));
  CHECK(contains(message_of<BadArgument>([&] { tokenizer.decode(Ids{3}); }), "[0, 3), got 3"));
  CHECK_THROWS_AS(tokenizer.decode(Ids{-1}), BadArgument);
  CHECK_THROWS_AS(Tokenizer(TokenizerKind::byte).decode(Ids{256}), BadArgument);
  CHECK_THROWS_AS(Tokenizer(TokenizerKind::character), BadArgument);
}

TEST_CASE("bytes are their own tokens, in any text") {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
  const Tokenizer tokenizer(TokenizerKind::byte);
  const Ids ids = tokenizer.encode(all);
  CHECK(ids.size() == 256);
  for (int byte = 0; byte < 256; ++byte) CHECK(ids[byte] == byte);
  CHECK(tokenizer.decode(ids) == all);
}

TEST_CASE("a tokenizer comes back from its JSON, quotes, controls and zeros included") {
  const std::string text("\0\"\\\n\x7fä€😀", 14);
  const Tokenizer saved(TokenizerKind::character, text);
  const Tokenizer loaded = Tokenizer::load(saved.save());
  CHECK(loaded.vocabulary() == saved.vocabulary());
  CHECK(loaded.encode(text) == saved.encode(text));
  CHECK(loaded.save() == saved.save());
  const Tokenizer bytes = Tokenizer::load(Tokenizer(TokenizerKind::byte).save());
  CHECK(bytes.vocabulary() == 256);
}

TEST_CASE("JSON that no tokenizer saved is refused") {
  for (const char* saved :
       {"", "{", "[]", "1", "{}", R"({"kind":"word"})", R"({"kind":"char"})",
        R"({"kind":"char","characters":1})", R"({"kind":"char","characters":""})",
        R"({"kind":"char","characters":"ba"})", R"({"kind":"char","characters":"aa"})",
        R"({"kind":"byte","characters":"ab"})", R"({"kind":"char","characters":"a","x":1})"})
    CHECK_THROWS_AS_MESSAGE(Tokenizer::load(saved), BadArgument, saved);
}

TEST_CASE("kinds are chosen by word") {
  CHECK(Tokenizer(tokenizer_kind("char"), "aab").vocabulary() == 2);
  CHECK(Tokenizer(tokenizer_kind("byte"), "aab").vocabulary() == 256);
  CHECK(contains(message_of<BadArgument>([] { tokenizer_kind("word"); }), "'word'"));
}

TEST_CASE("a byte is found by its value, a character by its code point") {
  const Tokenizer characters(TokenizerKind::character, "aé世");
  CHECK(characters.find(U'a') == 0);
  CHECK(characters.find(U'b') == -1);
  CHECK(characters.find(U'é') == 1);
  CHECK(characters.find(U'世') == 2);
  CHECK(characters.find(U'界') == -1);
  CHECK(Tokenizer(TokenizerKind::byte).find(0xe9) == 0xe9);
  CHECK(Tokenizer(TokenizerKind::byte).find(U'世') == -1);
}

TEST_CASE("a text is read in parts of any length, each beginning where the last one ended") {
  const std::string text = "aé世😀b";
  const Tokenizer tokenizer(TokenizerKind::character, text);
  const Ids whole = tokenizer.encode(text);
  for (int64_t most = 1; most <= 6; ++most) {
    Ids ids, part(6, -7);
    for (size_t at = 0; at < text.size();) {
      const int64_t read = tokenizer.read(text, at, most, part.data());
      CHECK(read <= most);
      ids.insert(ids.end(), part.begin(), part.begin() + read);
    }
    CHECK(ids == whole);
    CHECK((most == 6 || part[most] == -7));  // not written
  }
}
