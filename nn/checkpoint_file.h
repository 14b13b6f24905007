// A checkpoint as a file: its name and its checksum. Private to nn.
#pragma once
#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "accrue/core/safetensors.h"

namespace accrue::checkpoint {

// The checksum is over all bytes of the file, its own digits read as zeros.
constexpr const char* checksum_key = "xxh3_128";
constexpr const char* format_key = "accrue_checkpoint";
constexpr const char* format = "2";
constexpr const char* format_1_key = "sha256";  // it had no format key

/// Optimizer steps done, and micro-batches done of the cycle after them.
struct Position {
  int64_t step = 0, micro = 0;
  auto operator<=>(const Position&) const = default;
};

/// step-12.safetensors, or step-12-micro-3.safetensors from within a cycle.
std::string file_name(Position position);
/// The paths of a folder's checkpoints, in order.
std::map<Position, std::string> files_in(const std::string& folder);

/// A metadata value of the checksum's length, to be replaced by the checksum.
std::string checksum_placeholder();
/// Writes a file (see write_whole) whose checksum is still the placeholder, with its checksum: the
/// disk begins before the sum is known. Throws BadArgument where it has no empty place.
void write_sealed(const std::string& path, std::span<const std::byte> file);
/// Throws BadArgument if the file is damaged or, with `other_format`, if it is of another format.
SafetensorsFile open_verified(const std::string& path, bool& other_format);

}  // namespace accrue::checkpoint
