#include "identity.h"

#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "accrue/core/error.h"
#include "options.h"

namespace accrue::examples {
namespace {

using Json = nlohmann::json;

// A flag that is not listed here must stay what it was: a new one is refused until it is known not
// to matter.
const std::set<std::string> free_flags{
    "--help",      "--log",         "--checkpoint",    "--checkpoint-interval",
    "--resume",    "--dry-run",     "--verify",        "--sample",
    "--top-k",     "--temperature", "--eval-interval", "--eval-batches",
    "--recompute", "--records"};
const std::map<std::string, std::string> noted_flags{
    {"--steps", "the learning rate follows the new length from here on"},
    {"--micro-batch",
     "sums are rounded in another order from here on, so the weights are not an uninterrupted "
     "run's to the bit"},
    {"--device", "the weights may not be an uninterrupted run's to the bit"},
    {"--threads", "the weights may not be an uninterrupted run's to the bit"}};
// Granules decide the bits of the tiers `split` and `ranks`.
const std::set<std::string> free_in_tiers{"--micro-batch", "--threads"};

template <class T>
std::optional<T> number(const std::string& word) {
  T value;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  return error == std::errc() && end == word.data() + word.size() ? std::optional(value)
                                                                  : std::nullopt;
}

// Whole numbers as they are: a double holds 53 bits of a seed's 64.
bool same(const std::string& a, const std::string& b) {
  if (number<int64_t>(a) && number<int64_t>(b)) return number<int64_t>(a) == number<int64_t>(b);
  return a == b || (number<double>(a) && number<double>(a) == number<double>(b));  // 1e-3 and 0.001
}

std::string value_of(const Json& flags, const std::string& flag) {
  return flags.is_object() && flags.contains(flag) && flags[flag].is_string()
             ? flags[flag].get<std::string>()
             : "";  // one that either side does not know is as good as unset
}

bool default_warmup(const Json& flags) {
  const auto steps = number<int64_t>(value_of(flags, "--steps"));
  return steps && number<int64_t>(value_of(flags, "--warmup")) == warmup_for(*steps);
}

std::string shown(const std::string& value) { return value.empty() ? "unset" : value; }

}  // namespace

Identity::Identity(std::map<std::string, std::string> flags, const std::string& data,
                   bool by_micro_batches)
    : by_micro_batches_(by_micro_batches), flags_(std::move(flags)) {
  // A batch that waits for a plateau depends on what is validated, and when.
  const bool by_plateau = flags_["--batch-by"] == "plateau";
  std::erase_if(flags_, [&](const auto& flag) {
    return free_flags.contains(flag.first) && !(by_plateau && flag.first.starts_with("--eval-"));
  });
  if (flags_["--f32-products"] == "native") flags_.erase("--f32-products");  // as without the flag
  flags_["--data"] = data;
}

void Identity::visit(Visitor& part) {
  const std::string mine = Json(flags_).dump();
  std::string stored = mine;
  part("flags", stored);
  if (stored != mine) compare(stored);
}

void Identity::compare(const std::string& stored) {
  notes_.clear();
  const Json then = Json::parse(stored, nullptr, /*allow_exceptions=*/false), now = flags_;
  std::set<std::string> names;
  for (const auto& [flag, value] : flags_) names.insert(flag);
  for (const auto& [flag, value] : then.items()) names.insert(flag);
  std::string differences;
  for (const std::string& flag : names) {
    const std::string before = value_of(then, flag), after = value_of(now, flag);
    if (same(before, after) || (free_in_tiers.contains(flag) && flags_["--reproducible"] != "run"))
      continue;
    const std::string difference =
        text(flag, ' ', shown(before), " in the checkpoint, ", shown(after), " now");
    if (flag == "--warmup" && default_warmup(then) && default_warmup(now))
      notes_.push_back(difference + ": the default follows --steps");
    else if (const auto note = noted_flags.find(flag);
             note != noted_flags.end() && !(flag == "--micro-batch" && by_micro_batches_))
      notes_.push_back(text(difference, ": ", note->second));
    else
      differences += (differences.empty() ? "" : "; ") + difference;
  }
  require(differences.empty(), "[resume] expected the flags of the checkpoint, got ", differences,
          "; try the same flags, or another --checkpoint folder");
}

}  // namespace accrue::examples
