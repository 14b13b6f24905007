// Accumulators by name, as programs' flags give them.
#include "accrue/autograd/accumulators.h"

namespace accrue::accumulators {

std::vector<std::shared_ptr<const Accumulator>> all(Seed seed) {
  return {f32(), f64(), bf16(), bf16_stochastic(seed), kahan(), tree(), fixed_point()};
}

std::shared_ptr<const Accumulator> named(std::string_view name, const Own& own, Seed seed) {
  Own choices = all(seed);
  choices.insert(choices.end(), own.begin(), own.end());
  std::string names;
  for (const auto& one : choices) {
    if (one->name() == name) return one;
    names += names.empty() ? "" : ", ";
    names += one->name();
  }
  throw BadArgument(text("[accumulator] expected one of ", names, "; got ", name,
                         "; patterns follow the name: kahan:*.ln_1.*"));
}

Accumulators parse(std::string_view choice, const Own& own, Seed seed) {
  Accumulators result;
  for (size_t comma = 0; comma != std::string_view::npos;) {
    comma = choice.find(',');
    const std::string_view one = choice.substr(0, comma);
    const size_t colon = one.find(':');
    const bool bare = colon == std::string_view::npos;
    const std::string_view pattern = bare ? "*" : one.substr(colon + 1);
    require(!pattern.empty(), "[accumulator] expected name:pattern, got ", one,
            "; try kahan:*.ln_1.*,f32:*");
    result.emplace_back(pattern, named(one.substr(0, colon), own, seed));
    if (comma != std::string_view::npos) choice = choice.substr(comma + 1);
  }
  return result;
}

}  // namespace accrue::accumulators
