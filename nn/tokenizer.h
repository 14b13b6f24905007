// Text to token ids and back.
#pragma once
#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace accrue {

enum class TokenizerKind : uint8_t { byte, character };
/// The kind called "byte" or "char". Throws BadArgument on any other word.
TokenizerKind tokenizer_kind(std::string_view word);

/// byte: one token for each of the 256 values of a byte: any text, any language, no vocabulary to
/// keep. character: one for each distinct Unicode code point of a text, in the order of code
/// points.
class Tokenizer {
 public:
  /// The vocabulary of this text, which bytes do not look at. Throws BadArgument, with the byte's
  /// position, if characters are asked for and it is not UTF-8, or empty.
  explicit Tokenizer(TokenizerKind kind, std::string_view text = {});

  int64_t vocabulary() const { return static_cast<int64_t>(points_.size()); }
  /// Throws BadArgument on text that is not UTF-8, and on a character outside the vocabulary.
  std::vector<int32_t> encode(std::string_view text) const;
  /// Sets to[0 …] to the ids of at most `count` tokens of `text` from byte `at` on, moves `at`
  /// behind them and returns how many there were. Throws as encode() does.
  int64_t read(std::string_view text, size_t& at, int64_t count, int32_t* to) const;
  /// Throws BadArgument on an id outside the vocabulary.
  std::string decode(std::span<const int32_t> ids) const;
  /// The id of a byte or a code point; −1 if it is not in the vocabulary.
  int32_t find(char32_t point) const;
  int32_t find(std::same_as<char> auto) const = delete;  // bytes above 127 are negative in it

  /// As JSON, to be kept in a checkpoint: {"kind":"char","characters":"…"} or {"kind":"byte"}.
  std::string save() const;
  /// Throws BadArgument unless `saved` came from save().
  static Tokenizer load(std::string_view saved);

 private:
  int32_t search(char32_t point) const;

  TokenizerKind kind_;
  std::vector<char32_t> points_;  // sorted; a token's id is its place here
  int32_t low_[256];              // what find() gives for the first code points: most of most texts
};

}  // namespace accrue
