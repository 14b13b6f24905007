// A sequence of token ids, from a mapped file or from memory.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "accrue/nn/tokenizer.h"

namespace accrue {

struct TokenizedFile;

/// Token ids that are read, never written. Copies and slices share their memory.
class Tokens {
 public:
  /// Throws BadArgument unless every id is in [0, vocabulary).
  Tokens(std::vector<int32_t> ids, int64_t vocabulary);
  /// The file's text as the tokens of this tokenizer. The file stays mapped and is translated as it
  /// is read; where characters take several bytes, an index takes 8 bytes for each 256 of them.
  /// Throws Failure if the file cannot be read, BadArgument if it is empty or does not fit the
  /// tokenizer.
  static Tokens from_file(const std::string& path, const Tokenizer& tokenizer);
  /// The same with a tokenizer made for this text.
  static TokenizedFile from_file(const std::string& path, TokenizerKind kind);

  int64_t size() const { return size_; }
  int64_t vocabulary() const;
  /// to[i] = id of token first + i, i < count. Throws BadArgument if out of range, and Failure or
  /// BadArgument where a file that was changed no longer has so many characters of the vocabulary.
  void copy(int64_t first, int64_t count, int32_t* to) const;
  /// Tokens [first, first + count): the training or validation part. Throws BadArgument if out of
  /// range.
  Tokens slice(int64_t first, int64_t count) const;

 private:
  struct Source;
  explicit Tokens(std::shared_ptr<const Source> source);
  void require_range(const char* operation, int64_t first, int64_t count) const;

  std::shared_ptr<const Source> source_;
  int64_t first_ = 0, size_ = 0;
};

struct TokenizedFile {
  Tokens tokens;
  Tokenizer tokenizer;
};

}  // namespace accrue
