// Damage anywhere in a file must show, so the checksum is over the file and not over what it says.
#include "accrue/nn/checkpoint_file.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <future>
#include <string_view>
#include <system_error>

#include "accrue/core/file.h"
#include "accrue/core/xxh3.h"
#include "accrue/nn/checkpoint_parts.h"

namespace accrue::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view prefix = "step-", middle = "-micro-", suffix = ".safetensors";
constexpr size_t digits = 32;  // hexadecimal ones of 128 bits

/// What file_name() makes of no position is no checkpoint: step-7.safetensors.old, step-07.
std::optional<Position> position_of(std::string_view name) {
  if (!name.starts_with(prefix) || !name.ends_with(suffix)) return std::nullopt;
  std::string_view rest = name.substr(prefix.size());
  rest.remove_suffix(std::min(rest.size(), suffix.size()));
  const size_t cut = rest.find(middle);
  const auto step = parse_integer(rest.substr(0, cut));
  const auto micro = cut == rest.npos ? 0 : parse_integer(rest.substr(cut + middle.size()));
  if (!step || !micro || *step < 0 || *micro < 0) return std::nullopt;
  const Position position{*step, *micro};
  return file_name(position) == name ? std::optional(position) : std::nullopt;
}

/// Where the checksum's digits begin. In a header quotes stand for themselves only around names and
/// values, and ours is never the first key: nothing else can look like this.
std::optional<size_t> checksum_place(std::span<const std::byte> file) {
  uint64_t length;
  if (file.size() < sizeof length) return std::nullopt;
  std::memcpy(&length, file.data(), sizeof length);
  const std::string_view header(reinterpret_cast<const char*>(file.data()) + sizeof length,
                                std::min<size_t>(length, file.size() - sizeof length));
  const std::string key = text(",\"", checksum_key, "\":\"");
  const size_t found = header.find(key);
  if (found == header.npos || header.size() - found - key.size() <= digits) return std::nullopt;
  return sizeof length + found + key.size();
}

std::string checksum(std::span<const std::byte> file, size_t place) {
  const std::string zeros = checksum_placeholder();
  return Xxh3()
      .add(file.first(place))
      .add(std::as_bytes(std::span(zeros)))
      .add(file.subspan(place + digits))
      .hex();
}

}  // namespace

std::string file_name(Position at) {
  return at.micro == 0 ? text(prefix, at.step, suffix)
                       : text(prefix, at.step, middle, at.micro, suffix);
}

std::map<Position, std::string> files_in(const std::string& folder) {
  std::map<Position, std::string> files;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error))
    if (const auto position = position_of(entry->path().filename().string()))
      files[*position] = entry->path().string();
  // A folder that is not there has no files; one that cannot be read may have some.
  if (error && error != std::errc::no_such_file_or_directory && error != std::errc::not_a_directory)
    throw Failure(text("[checkpoint] expected a folder that can be read, got '", folder,
                       "': ", error.message(), "; give this user permission, or try another"));
  return files;
}

std::string checksum_placeholder() { return std::string(digits, '0'); }

void write_sealed(const std::string& path, std::span<const std::byte> file) {
  const auto place = checksum_place(file);
  std::string late = checksum_placeholder();
  require(place && std::ranges::equal(file.subspan(*place, digits), std::as_bytes(std::span(late))),
          "[checkpoint] expected a header with an empty place for a checksum, got none");
  // Beside the writing: it takes about a fifth of the time that a fast disk needs.
  auto sum = std::async(std::launch::async, [&] { return checksum(file, *place); });
  const auto fill = [&](const WriteBytes& write) {
    write(file);
    sum.get().copy(late.data(), digits);
  };
  write_whole(path, fill, std::as_bytes(std::span(late)), *place);
}

SafetensorsFile open_verified(const std::string& path, bool& other_format) {
  other_format = false;
  SafetensorsFile file(path);
  const auto& metadata = file.metadata();
  const auto place = checksum_place(file.file());
  const bool named = metadata.contains(format_key);
  std::string version = named ? metadata.at(format_key) : "none";
  if (!place && !named && metadata.contains(format_1_key)) {
    version = "1";
  } else {
    require(place.has_value(), "[checkpoint] expected a checksum in '", path,
            "', got none; was it written by a checkpoint?");
    const std::string_view sum(reinterpret_cast<const char*>(file.file().data()) + *place, digits);
    require(sum == checksum(file.file(), *place), "[checkpoint] expected the contents of '", path,
            "' to have the checksum they were written with, got another; try an older file");
  }
  other_format = version != format;
  require(!other_format, "[checkpoint] expected format ", format, " in '", path, "', got format ",
          version, "; try the version of accrue that wrote it, or begin anew in another folder");
  return file;
}

}  // namespace accrue::checkpoint
