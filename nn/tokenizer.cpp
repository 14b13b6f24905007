// Tokenizers, and the little UTF-8 they need.
#include "accrue/nn/tokenizer.h"

#include <algorithm>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <numeric>

#include "accrue/core/error.h"

namespace accrue {
namespace {

constexpr char32_t last_point = 0x10ffff;

/// Decodes the code point that begins at byte `at` and moves `at` behind it. Strict: overlong
/// forms, surrogates and cut-off sequences are refused, so that text has one encoding only.
char32_t next_point(std::string_view text, size_t& at) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(i < text.size() ? text[i] : 0); };
  const uint8_t first = byte(at);
  if (first < 0x80) return text[at++];
  const int length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  char32_t point = first & (0x7f >> length);
  bool valid = first >= 0xc0 && first < 0xf8;
  for (int i = 1; i < length; ++i) {
    valid = valid && (byte(at + i) & 0xc0) == 0x80;
    point = point << 6 | (byte(at + i) & 0x3f);
  }
  constexpr char32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = point >= 0xd800 && point < 0xe000;
  require(valid && point >= least[length] && point <= last_point && !surrogate,
          "[tokenizer] expected UTF-8, got byte ", int{first}, " at byte ", at,
          ", which begins no character; try to convert the text, or the byte tokenizer");
  at += length;
  return point;
}

void append(std::string& text, char32_t point) {
  const auto tail = [&](int shift) { text += static_cast<char>(0x80 | (point >> shift & 0x3f)); };
  if (point < 0x80) {
    text += static_cast<char>(point);
  } else if (point < 0x800) {
    text += static_cast<char>(0xc0 | point >> 6);
    tail(0);
  } else if (point < 0x10000) {
    text += static_cast<char>(0xe0 | point >> 12);
    tail(6), tail(0);
  } else {
    text += static_cast<char>(0xf0 | point >> 18);
    tail(12), tail(6), tail(0);
  }
}

}  // namespace

TokenizerKind tokenizer_kind(std::string_view word) {
  require(word == "byte" || word == "char", "[tokenizer] expected byte or char, got '", word,
          "'; try char for text, byte for anything");
  return word == "byte" ? TokenizerKind::byte : TokenizerKind::character;
}

Tokenizer::Tokenizer(TokenizerKind kind, std::string_view text) : kind_(kind) {
  require(kind == TokenizerKind::byte || !text.empty(),
          "[tokenizer] expected a text with characters, got none; try another file");
  if (kind == TokenizerKind::byte) {
    points_.resize(256);
    std::iota(points_.begin(), points_.end(), 0);
  } else {
    std::vector<bool> seen(last_point + 1);
    for (size_t at = 0; at < text.size();) seen[next_point(text, at)] = true;
    for (char32_t point = 0; point <= last_point; ++point)
      if (seen[point]) points_.push_back(point);
  }
  for (char32_t point = 0; point < 256; ++point) low_[point] = search(point);
}

int32_t Tokenizer::search(char32_t point) const {
  const auto found = std::ranges::lower_bound(points_, point);
  if (found == points_.end() || *found != point) return -1;
  return static_cast<int32_t>(found - points_.begin());
}

int32_t Tokenizer::find(char32_t point) const { return point < 256 ? low_[point] : search(point); }

int64_t Tokenizer::read(std::string_view text, size_t& at, int64_t count, int32_t* to) const {
  const bool bytes = kind_ == TokenizerKind::byte;
  int64_t done = 0;
  for (; done < count && at < text.size(); ++done) {
    const size_t first = at;
    const char32_t point = bytes ? static_cast<uint8_t>(text[at++]) : next_point(text, at);
    to[done] = find(point);
    require(to[done] >= 0, "[tokenizer] expected a character of the vocabulary, got '",
            text.substr(first, at - first), "' (U+", std::hex, std::uppercase, std::setfill('0'),
            std::setw(4), static_cast<uint32_t>(point), ") at byte ", std::dec, first,
            "; try the byte tokenizer");
  }
  return done;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int32_t> ids(text.size());
  size_t at = 0;
  ids.resize(read(text, at, static_cast<int64_t>(ids.size()), ids.data()));
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  for (int32_t id : ids) {
    require(id >= 0 && id < vocabulary(), "[tokenizer] expected ids in [0, ", vocabulary(),
            "), got ", id, "; try the tokenizer that made them");
    if (kind_ == TokenizerKind::byte)
      text += static_cast<char>(id);
    else
      append(text, points_[id]);
  }
  return text;
}

std::string Tokenizer::save() const {
  if (kind_ == TokenizerKind::byte) return R"({"kind":"byte"})";
  std::string characters;
  for (char32_t point : points_) append(characters, point);
  return nlohmann::json{{"kind", "char"}, {"characters", characters}}.dump();
}

Tokenizer Tokenizer::load(std::string_view saved) {
  using nlohmann::json;
  const json parsed = json::parse(saved, nullptr, false);
  if (parsed == json::object({{"kind", "byte"}})) return Tokenizer(TokenizerKind::byte);
  const auto characters = parsed.is_object() ? parsed.find("characters") : parsed.end();
  require(characters != parsed.end() && characters->is_string(),
          "[tokenizer] expected JSON from save(), got '", saved.substr(0, 80),
          "'; try another checkpoint");
  const Tokenizer tokenizer(TokenizerKind::character, characters->get<std::string>());
  // The constructor sorts: only what save() wrote comes out of save() unchanged.
  require(json::parse(tokenizer.save()) == parsed,
          "[tokenizer] expected kind char with distinct, sorted characters, got '",
          saved.substr(0, 80), "'; try another checkpoint");
  return tokenizer;
}

}  // namespace accrue
