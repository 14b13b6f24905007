// The header of a safetensors file as text; used by safetensors.cpp only.
#pragma once
#include <map>
#include <ostream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "accrue/core/safetensors.h"

namespace accrue::safetensors {

/// A dtype that the format knows.
struct Format {
  std::string_view name;
  size_t bits;
  std::optional<DType> dtype;
};
/// In the reference implementation's order, by which tensors are sorted in a file, last ones first.
const Format* format_of(DType dtype);

struct Header {
  std::map<std::string, SafetensorsInfo, std::less<>> tensors;
  std::map<std::string, std::string> metadata;
};
/// Finds the header's text in the bytes of the whole file. Throws BadArgument where there is none.
std::string_view header_of(std::span<const std::byte> file, const std::string& path);
/// Throws BadArgument unless every tensor has all fields and as many bytes as its numbers need.
Header read_header(std::string_view header, const std::string& path);

/// The header for tensors that follow each other in this order, filled up to a multiple of 8 bytes.
std::string make_header(const NamedTensors& tensors,
                        const std::map<std::string, std::string>& metadata);

constexpr size_t length_bytes = 8;  // of the header's length, at the beginning of the file
constexpr std::string_view metadata_key = "__metadata__";

/// Prints a name in quotes and cuts it: a hostile one may have a hundred million letters.
struct Quoted {
  std::string_view name;
};
std::ostream& operator<<(std::ostream& out, Quoted quoted);

}  // namespace accrue::safetensors
