// Checkpoints: gather, checksum, verify, and only then write into the parts.
#include "accrue/nn/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <system_error>

#include "accrue/core/error.h"
#include "accrue/core/safetensors.h"
#include "accrue/core/sha256.h"
#include "accrue/nn/checkpoint_parts.h"

namespace accrue {
using namespace checkpoint;

namespace {

namespace fs = std::filesystem;

constexpr std::string_view file_prefix = "step-", file_suffix = ".safetensors";
constexpr size_t files_kept = 2;

using Named = std::vector<std::pair<std::string, Tensor>>;
using Metadata = std::map<std::string, std::string>;

// ---- the folder

std::string path_of(const std::string& folder, Step step) {
  return (fs::path(folder) / text(file_prefix, step.value, file_suffix)).string();
}

/// Checkpoints by their step.
std::map<int64_t, std::string> files_in(const std::string& folder) {
  std::map<int64_t, std::string> files;
  std::error_code missing;
  for (const auto& entry : fs::directory_iterator(folder, missing)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(file_prefix) || !name.ends_with(file_suffix)) continue;
    const std::string_view digits = std::string_view(name).substr(
        file_prefix.size(), name.size() - file_prefix.size() - file_suffix.size());
    if (const auto step = parse_integer(digits)) files[*step] = entry.path().string();
  }
  return files;
}

// ---- the checksum

/// Over everything that the file says, lengths included, so that no byte can move between fields.
class Digest {
 public:
  Digest& add(std::span<const std::byte> bytes) {
    const uint64_t size = bytes.size();
    hash_.add(std::as_bytes(std::span(&size, 1))).add(bytes);
    return *this;
  }
  Digest& add(std::string_view word) { return add(std::as_bytes(std::span(word))); }
  Digest& add(const Metadata& metadata) {
    for (const auto& [key, value] : metadata)
      if (key != checksum_key) add(key).add(value);
    return *this;
  }
  Digest& add(const std::string& name, DType dtype, const Shape& shape,
              std::span<const std::byte> bytes) {
    return add(name).add(name_of(dtype)).add(text(shape)).add(bytes);
  }
  std::string hex() const { return hash_.hex(); }

 private:
  Sha256 hash_;
};

std::string checksum(Named& tensors, const Metadata& metadata) {
  std::ranges::sort(tensors, {}, &Named::value_type::first);
  Digest digest;
  for (auto& [name, tensor] : tensors) {
    require(tensor && tensor.is_contiguous() && tensor.in().data,
            "[checkpoint] expected a row-major tensor with memory for ", name,
            ", got none; try to save outside a dry run");
    digest.add(name, tensor.dtype(), tensor.shape(),
               {static_cast<const std::byte*>(tensor.in().data), tensor.bytes()});
  }
  return digest.add(metadata).hex();
}

std::string checksum(const SafetensorsFile& file) {
  std::vector<std::string> names = file.names();
  std::ranges::sort(names);
  Digest digest;
  for (const std::string& name : names) {
    const SafetensorsInfo& info = file.info(name);
    digest.add(name, info.dtype.value_or(DType::u8), info.shape, file.bytes(name));
  }
  return digest.add(file.metadata()).hex();
}

SafetensorsFile open_verified(const std::string& path) {
  SafetensorsFile file(path);
  const auto found = file.metadata().find(checksum_key);
  require(found != file.metadata().end(), "[checkpoint] expected a checksum in '", path,
          "', got none; was it written by a checkpoint?");
  require(found->second == checksum(file), "[checkpoint] expected the contents of '", path,
          "' to have the checksum they were written with, got another: the file is damaged");
  return file;
}

}  // namespace

bool Checkpoint::exists() const { return !files_in(folder_).empty(); }

void Checkpoint::make_folder() const {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error || !fs::is_directory(folder_))
    throw Failure(text("[checkpoint] expected to make the folder '", folder_,
                       "', got: ", error.message(), "; try another folder"));
}

void Checkpoint::save(Step step) {
  std::map<int64_t, std::string> files = files_in(folder_);
  const auto is_damaged = [&](const auto& file) {
    return std::ranges::find(damaged_, file.second) != damaged_.end();
  };
  std::vector<std::string> old = damaged_;
  std::erase_if(files, is_damaged);
  require_order(files.empty() || files.rbegin()->first <= step.value,
                "[checkpoint] expected no step after ", step.value, " in '", folder_,
                "', got step ", files.empty() ? 0 : files.rbegin()->first,
                "; load() it first, or use another folder");
  Named tensors;
  Metadata metadata;
  Visitor visitor(
      {.parameter = [&](const std::string& name,
                        Parameter& part) { tensors.emplace_back(name, part.state()->master); },
       .site = [&](const std::string& name,
                   RandomSite& part) { metadata[seed_key(name)] = text(part.seed.value); },
       .tensor = [&](const std::string& name, Tensor& part) { tensors.emplace_back(name, part); },
       .integer = [&](const std::string& name,
                      int64_t& part) { metadata[integer_key(name)] = text(part); },
       .text = [&](const std::string& name,
                   std::string& part) { metadata[text_key(name)] = part; }});
  visit(visitor);
  metadata[checksum_key] = checksum(tensors, metadata);

  make_folder();
  const std::string path = path_of(folder_, step);
  write_safetensors(path, tensors, metadata);

  files[step.value] = path;
  std::erase(old, path);  // a damaged file of this step was just replaced
  while (files.size() > files_kept) {
    old.push_back(files.begin()->second);
    files.erase(files.begin());
  }
  std::error_code error;
  for (const std::string& one : old) fs::remove(one, error);  // one that stays does no harm
  damaged_.clear();
}

bool Checkpoint::load() {
  warnings_.clear();
  damaged_.clear();
  const std::map<int64_t, std::string> files = files_in(folder_);
  for (auto one = files.rbegin(); one != files.rend(); ++one) {
    const std::string& path = one->second;
    std::optional<SafetensorsFile> file;
    try {
      file.emplace(open_verified(path));
    } catch (const BadArgument& error) {  // not Failure: a file that cannot be opened may be whole
      warnings_.push_back(error.what());
      damaged_.push_back(path);
      continue;
    }
    load_parts(*file, path, [this](Visitor& visitor) { visit(visitor); });
    return true;
  }
  std::string all;
  for (const std::string& warning : warnings_) all += (all.empty() ? " " : "; ") + warning;
  require(warnings_.empty(), "[checkpoint] expected a file in '", folder_,
          "' that is whole, got damage in all; try a copy, or begin anew in another folder:", all);
  return false;
}

}  // namespace accrue
