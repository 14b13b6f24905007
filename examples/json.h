// JSON that several programs print.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

#include "accrue/core/allocator.h"

namespace accrue::examples {

inline nlohmann::ordered_json bytes_by_tag(const MemoryUse& use) {
  nlohmann::ordered_json bytes;
  for (int tag = 0; tag < tag_count; ++tag) bytes[std::string(tag_names[tag])] = use.peak[tag];
  return bytes;
}

}  // namespace accrue::examples
