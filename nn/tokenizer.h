// Text to token ids and back.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace accrue {

/// One token for each of the 256 values of a byte: any text, any language, no vocabulary to keep.
struct ByteTokenizer {
  int64_t vocabulary() const { return 256; }
  std::vector<int32_t> encode(std::string_view text) const;
  /// Throws BadArgument on an id outside the vocabulary.
  std::string decode(std::span<const int32_t> ids) const;
};

/// One token for each distinct Unicode code point of a text, numbered in the order of code points.
class CharTokenizer {
 public:
  /// The vocabulary of this UTF-8 text. Throws BadArgument, with the byte's position, if it is not
  /// UTF-8, or if it is empty.
  explicit CharTokenizer(std::string_view text);

  int64_t vocabulary() const { return static_cast<int64_t>(points_.size()); }
  /// Throws BadArgument on text that is not UTF-8, and on a character outside the vocabulary.
  std::vector<int32_t> encode(std::string_view text) const;
  /// Throws BadArgument on an id outside the vocabulary.
  std::string decode(std::span<const int32_t> ids) const;
  /// The id of a code point; −1 if it is not in the vocabulary.
  int32_t find(char32_t point) const;

 private:
  std::vector<char32_t> points_;  // sorted; a token's id is its place here
};

enum class TokenizerKind : uint8_t { byte, character };
/// The kind called "byte" or "char". Throws BadArgument on any other word.
TokenizerKind tokenizer_kind(std::string_view word);

/// Either of the two.
class Tokenizer {
 public:
  Tokenizer(ByteTokenizer tokenizer) : either_(tokenizer) {}
  Tokenizer(CharTokenizer tokenizer) : either_(std::move(tokenizer)) {}
  /// One of this kind for this text.
  static Tokenizer for_text(TokenizerKind kind, std::string_view text);

  int64_t vocabulary() const;
  std::vector<int32_t> encode(std::string_view text) const;
  std::string decode(std::span<const int32_t> ids) const;
  /// The id of a byte that is a token by itself; −1 if it is not one.
  int32_t find(uint8_t byte) const;

  /// As JSON, to be kept in a checkpoint: {"kind":"char","characters":"…"} or {"kind":"byte"}.
  std::string save() const;
  /// Throws BadArgument unless `saved` came from save().
  static Tokenizer load(std::string_view saved);

 private:
  std::variant<ByteTokenizer, CharTokenizer> either_;
};

}  // namespace accrue
