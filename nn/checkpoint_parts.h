// How the parts of a checkpoint lie in its file, and how they are read back. Private to nn.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "accrue/autograd/module.h"
#include "accrue/core/safetensors.h"

namespace accrue::checkpoint {

// Integers and texts lie in the metadata under these, so that a text cannot pass for an integer.
inline std::string integer_key(const std::string& name) { return "integer." + name; }
inline std::string text_key(const std::string& name) { return "text." + name; }
inline std::string seed_key(const std::string& name) { return "seed." + name; }

/// The number that all of `digits` spells, if it does.
std::optional<int64_t> parse_integer(std::string_view digits);

/// Compares the parts that `walk` lists with the file and then sets them. Throws BadArgument where
/// names, shapes or dtypes differ; the parts are then as they were.
void load_parts(const SafetensorsFile& file, const std::string& path,
                const std::function<void(Visitor&)>& walk);

}  // namespace accrue::checkpoint
