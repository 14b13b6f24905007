// Accumulators by name, as programs' flags give them.
#include "accrue/autograd/accumulator.h"

namespace accrue::accumulators {

std::shared_ptr<const Accumulator> named(std::string_view name) {
  for (const auto& one : {f32(), bf16(), kahan()})
    if (one->name() == name) return one;
  throw BadArgument(text("[accumulator] expected f32, bf16 or kahan, got ", name));
}

Accumulators parse(std::string_view choice) {
  Accumulators result;
  while (!choice.empty()) {
    const size_t comma = choice.find(',');
    const std::string_view one = choice.substr(0, comma);
    const size_t colon = one.find(':');
    const bool bare = colon == std::string_view::npos;
    result.emplace_back(bare ? "*" : one.substr(colon + 1), named(one.substr(0, colon)));
    choice = comma == std::string_view::npos ? "" : choice.substr(comma + 1);
  }
  return result;
}

}  // namespace accrue::accumulators
