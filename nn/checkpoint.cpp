// Checkpoints: gather, copy, write in the background; verify, and only then write into the parts.
#include "accrue/nn/checkpoint.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <optional>
#include <system_error>

#include "accrue/core/error.h"
#include "accrue/core/mode.h"
#include "accrue/core/safetensors.h"
#include "accrue/nn/checkpoint_file.h"
#include "accrue/nn/checkpoint_parts.h"

namespace accrue {
using namespace checkpoint;

namespace {

namespace fs = std::filesystem;
using Paths = std::vector<std::string>;

constexpr size_t files_kept = 2;

void make(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error || !fs::is_directory(folder))
    throw Failure(text("[checkpoint] expected to make the folder '", folder,
                       "', got: ", error.message(), "; try another folder"));
  // Rather now than when the first file is due.
  if (::access(folder.c_str(), W_OK | X_OK) != 0)
    throw Failure(text("[checkpoint] expected a folder that may be written to, got '", folder,
                       "': ", std::generic_category().message(errno), "; try another folder"));
}

/// The folder's checkpoints but for the damaged ones.
std::map<Position, std::string> whole_files(const std::string& folder, const Paths& damaged) {
  std::map<Position, std::string> files = files_in(folder);
  std::erase_if(files, [&](const auto& file) {
    return std::ranges::find(damaged, file.second) != damaged.end();
  });
  return files;
}

SafetensorsImage image_of(const std::function<void(Visitor&)>& walk) {
  NamedTensors tensors;
  std::map<std::string, std::string> metadata{{format_key, format},
                                              {checksum_key, checksum_placeholder()}};
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
  walk(visitor);
  return SafetensorsImage(std::move(tensors), metadata);
}

/// Host memory of at least so many bytes; what was in it is lost.
void fit(std::unique_ptr<Storage>& memory, size_t bytes) {
  const bool dry = current_mode() != Mode::run;
  if (memory && memory->bytes >= bytes && memory->dry == dry) return;
  constexpr size_t unit = size_t{1} << 20;  // a number with one more digit needs no other block
  memory.reset();
  memory = std::make_unique<Storage>(Device::cpu(), (bytes + unit - 1) / unit * unit, Tag::copies);
}

/// What the other thread does. Returns the path.
std::string write(const std::string& folder, Position position, std::span<const std::byte> bytes,
                  const Paths& damaged) {
  const std::string path = (fs::path(folder) / file_name(position)).string();
  try {
    make(folder);
    remove_leftovers(folder);
    write_sealed(path, bytes);
  } catch (const std::exception& error) {
    throw Failure(text("[checkpoint] expected to write '", path, "', got: ", error.what()));
  }
  std::map<Position, std::string> files = whole_files(folder, damaged);
  files[position] = path;  // a damaged file of this edge was just replaced
  Paths old = damaged;
  std::erase(old, path);
  while (files.rbegin()->first > position) {  // the edges of a cycle that was then skipped
    old.push_back(files.rbegin()->second);
    files.erase(std::prev(files.end()));
  }
  while (files.size() > files_kept) {
    old.push_back(files.begin()->second);
    files.erase(files.begin());
  }
  std::error_code error;
  for (const std::string& one : old) fs::remove(one, error);  // one that stays does no harm
  return path;
}

}  // namespace

Checkpoint::Checkpoint(std::string folder) : folder_(std::move(folder)) {}
Checkpoint::~Checkpoint() = default;

bool Checkpoint::exists() const { return !files_in(folder_).empty(); }
void Checkpoint::make_folder() const { make(folder_); }

std::string Checkpoint::path(Step step, MicroStep micro) const {
  return (fs::path(folder_) / file_name({step.value, micro.value})).string();
}

void Checkpoint::save(Step step, MicroStep micro) {
  settle();
  const Position position{step.value, micro.value};
  const auto files = whole_files(folder_, damaged_);
  require_order(
      files.empty() || files.rbegin()->first <= position || files.rbegin()->second == newest_,
      "[checkpoint] expected nothing later than ", file_name(position), " in '", folder_, "', got ",
      files.empty() ? "" : file_name(files.rbegin()->first),
      "; load() it first, or use another folder");
  const SafetensorsImage image = image_of([this](Visitor& visitor) { visit(visitor); });
  fit(memory_, image.bytes());
  if (memory_->dry) return;
  auto* const bytes = static_cast<std::byte*>(memory_->data);
  image.copy(bytes);
  writing_ = std::async(std::launch::async, write, folder_, position,
                        std::span<const std::byte>(bytes, image.bytes()), damaged_);
  report();
}

void Checkpoint::wait() {
  settle();
  report();
}

void Checkpoint::settle() {
  if (!writing_.valid()) return;
  try {
    newest_ = writing_.get();
    damaged_.clear();
  } catch (const std::exception& error) {
    failure_ = error.what();
  }
}

void Checkpoint::report() {
  if (failure_.empty()) return;
  throw Failure(std::exchange(failure_, {}));
}

bool Checkpoint::load() {
  settle();
  remove_leftovers(folder_);
  warnings_.clear();
  damaged_.clear();
  const std::map<Position, std::string> files = files_in(folder_);
  for (auto one = files.rbegin(); one != files.rend(); ++one) {
    const std::string& path = one->second;
    std::optional<SafetensorsFile> file;
    bool other_format = false;
    try {
      file.emplace(open_verified(path, other_format));
    } catch (const BadArgument& error) {  // not Failure: a file that cannot be opened may be whole
      if (other_format) throw;
      warnings_.push_back(error.what());
      damaged_.push_back(path);
      continue;
    }
    load_parts(*file, path, [this](Visitor& visitor) { visit(visitor); });
    newest_ = path;
    return true;
  }
  std::string all;
  for (const std::string& warning : warnings_) all += (all.empty() ? " " : "; ") + warning;
  require(warnings_.empty(), "[checkpoint] expected a file in '", folder_,
          "' that is whole, got damage in all; try a copy, or begin anew in another folder:", all);
  return false;
}

}  // namespace accrue
