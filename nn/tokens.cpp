// Tokens over a mapped file, which takes no memory of its own but an index of wide characters.
#include "accrue/nn/tokens.h"

#include <algorithm>
#include <optional>

#include "accrue/core/error.h"
#include "accrue/core/file.h"

namespace accrue {
namespace {

constexpr int64_t block = 256;  // tokens between two places that are known

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

}  // namespace

struct Tokens::Source {
  int64_t vocabulary, size;
  std::vector<int32_t> ids;            // in memory, or …
  std::optional<MappedFile> file;      // … a text, translated as it is read
  std::optional<Tokenizer> tokenizer;  // by this one
  std::vector<size_t> places;          // where each block begins; empty if each byte is a token
};

Tokens::Tokens(std::shared_ptr<const Source> source)
    : source_(std::move(source)), size_(source_->size) {}

Tokens::Tokens(std::vector<int32_t> ids, int64_t vocabulary) {
  const auto outside = [&](int32_t id) { return id < 0 || id >= vocabulary; };
  const auto found = std::ranges::find_if(ids, outside);
  require(found == ids.end(), "[tokens] expected ids in [0, ", vocabulary, "), got ",
          found == ids.end() ? 0 : *found, " at ", found - ids.begin(),
          "; try the vocabulary of their tokenizer");
  const auto size = static_cast<int64_t>(ids.size());
  *this = Tokens(std::make_shared<Source>(Source{vocabulary, size, std::move(ids), {}, {}, {}}));
}

Tokens Tokens::from_file(const std::string& path, const Tokenizer& tokenizer) {
  MappedFile file(path);
  const std::string_view text = text_of(file);
  std::vector<size_t> places;
  int32_t ids[block];
  int64_t size = 0;
  for (size_t at = 0; at < text.size(); size += tokenizer.read(text, at, block, ids))
    places.push_back(at);
  if (size == static_cast<int64_t>(text.size())) places.clear();
  places.shrink_to_fit();
  return Tokens(std::make_shared<Source>(
      Source{tokenizer.vocabulary(), size, {}, std::move(file), tokenizer, std::move(places)}));
}

TokenizedFile Tokens::from_file(const std::string& path, TokenizerKind kind) {
  const MappedFile file(path);
  const Tokenizer tokenizer(kind, text_of(file));
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
  if (count == 0) return;
  if (!source_->file) {
    std::copy_n(source_->ids.begin() + first, count, to);
    return;
  }
  const std::string_view text = text_of(*source_->file);
  const std::vector<size_t>& places = source_->places;
  size_t at = places.empty() ? first : places[first / block];
  int32_t before[block];
  if (!places.empty()) source_->tokenizer->read(text, at, first % block, before);
  if (source_->tokenizer->read(text, at, count, to) != count)
    throw Failure("[tokens] expected the file's text, got less; leave a file as it is meanwhile");
}

Tokens Tokens::slice(int64_t first, int64_t count) const {
  require_range("slice", first, count);
  Tokens part = *this;
  part.first_ += first;
  part.size_ = count;
  return part;
}

}  // namespace accrue
