// Tokens over a mapped file, which takes no memory of its own where each byte is a token.
#include "accrue/nn/tokens.h"

#include <algorithm>
#include <array>
#include <optional>

#include "accrue/core/error.h"
#include "accrue/core/file.h"

namespace accrue {
namespace {

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

}  // namespace

struct Tokens::Source {
  int64_t vocabulary;
  std::vector<int32_t> ids;        // in memory, or …
  std::optional<MappedFile> file;  // … a byte per token, translated by the table
  std::array<int32_t, 256> table{};

  int64_t size() const { return static_cast<int64_t>(file ? file->bytes().size() : ids.size()); }
};

Tokens::Tokens(std::shared_ptr<const Source> source)
    : source_(std::move(source)), size_(source_->size()) {}

Tokens::Tokens(std::vector<int32_t> ids, int64_t vocabulary) {
  const auto outside = [&](int32_t id) { return id < 0 || id >= vocabulary; };
  const auto found = std::ranges::find_if(ids, outside);
  require(found == ids.end(), "[tokens] expected ids in [0, ", vocabulary, "), got ",
          found == ids.end() ? 0 : *found, " at ", found - ids.begin(),
          "; try the vocabulary of their tokenizer");
  *this = Tokens(std::make_shared<const Source>(Source{vocabulary, std::move(ids), {}, {}}));
}

Tokens Tokens::from_file(const std::string& path, const Tokenizer& tokenizer) {
  MappedFile file(path);
  std::array<bool, 256> seen{};
  for (std::byte byte : file.bytes()) seen[std::to_integer<uint8_t>(byte)] = true;
  auto source = std::make_shared<Source>(Source{tokenizer.vocabulary(), {}, {}, {}});
  bool byte_per_token = true;
  for (int byte = 0; byte < 256; ++byte) {
    source->table[byte] = tokenizer.find(static_cast<uint8_t>(byte));
    byte_per_token = byte_per_token && (!seen[byte] || source->table[byte] >= 0);
  }
  if (byte_per_token)
    source->file = std::move(file);
  else
    source->ids = tokenizer.encode(text_of(file));
  return Tokens(std::move(source));
}

TokenizedFile Tokens::from_file(const std::string& path, TokenizerKind kind) {
  const MappedFile file(path);
  const Tokenizer tokenizer = Tokenizer::for_text(kind, text_of(file));
  return {from_file(path, tokenizer), tokenizer};
}

int64_t Tokens::vocabulary() const { return source_->vocabulary; }

void Tokens::require_range(const char* operation, int64_t first, int64_t count) const {
  require(first >= 0 && count >= 0 && first <= size_ && count <= size_ - first,
          "[tokens] expected to ", operation, " within ", size_, " tokens, got ", count, " from ",
          first, "; try a longer text");
}

void Tokens::copy(int64_t first, int64_t count, int32_t* to) const {
  require_range("copy", first, count);
  first += first_;
  if (!source_->file) {
    std::copy_n(source_->ids.begin() + first, count, to);
    return;
  }
  const std::byte* from = source_->file->bytes().data() + first;
  std::transform(from, from + count, to,
                 [&](std::byte byte) { return source_->table[std::to_integer<uint8_t>(byte)]; });
}

Tokens Tokens::slice(int64_t first, int64_t count) const {
  require_range("slice", first, count);
  Tokens part = *this;
  part.first_ += first;
  part.size_ = count;
  return part;
}

}  // namespace accrue
