#include "identity.h"

#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "accrue/core/error.h"

namespace accrue::examples {
namespace {

using Json = nlohmann::json;

// A flag that is not listed here must stay what it was: a new one is refused until it is known not
// to matter.
const std::set<std::string> free_flags{
    "--help",     "--log",         "--checkpoint",    "--checkpoint-interval",
    "--resume",   "--dry-run",     "--verify",        "--sample",
    "--top-k",    "--temperature", "--eval-interval", "--eval-batches",
    "--recompute"};
const std::map<std::string, std::string> noted_flags{
    {"--steps", "the learning rate follows the new length from here on"},
    {"--micro-batch",
     "sums are rounded in another order from here on, so the weights are not an uninterrupted "
     "run's to the bit"},
    {"--threads", "the weights may not be an uninterrupted run's to the bit"}};

bool same(const std::string& a, const std::string& b) {
  const auto number = [](const std::string& word) -> std::optional<double> {
    double value;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    return error == std::errc() && end == word.data() + word.size() ? std::optional(value)
                                                                    : std::nullopt;
  };
  return a == b || (number(a) && number(a) == number(b));  // 1e-3 and 0.001
}

std::string shown(const std::string& value) { return value.empty() ? "unset" : value; }

}  // namespace

Identity::Identity(std::map<std::string, std::string> flags, const std::string& data)
    : flags_(std::move(flags)) {
  // A batch that waits for a plateau depends on what is validated, and when.
  const bool by_plateau = flags_["--batch-by"] == "plateau";
  std::erase_if(flags_, [&](const auto& flag) {
    return free_flags.contains(flag.first) && !(by_plateau && flag.first.starts_with("--eval-"));
  });
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
  const Json then = Json::parse(stored, nullptr, /*allow_exceptions=*/false);
  std::set<std::string> names;
  for (const auto& [flag, value] : flags_) names.insert(flag);
  for (const auto& [flag, value] : then.items()) names.insert(flag);
  std::string differences;
  for (const std::string& flag : names) {
    // One that either side does not know is as good as unset.
    const std::string before = then.is_object() && then.contains(flag) && then[flag].is_string()
                                   ? then[flag].get<std::string>()
                                   : "";
    const auto found = flags_.find(flag);
    const std::string now = found == flags_.end() ? "" : found->second;
    if (same(before, now) || (flag == "--micro-batch" && flags_["--reproducible"] != "run"))
      continue;
    const std::string difference =
        text(flag, ' ', shown(before), " in the checkpoint, ", shown(now), " now");
    if (const auto note = noted_flags.find(flag); note != noted_flags.end())
      notes_.push_back(text(difference, ": ", note->second));
    else
      differences += (differences.empty() ? "" : "; ") + difference;
  }
  require(differences.empty(), "[resume] expected the flags of the checkpoint, got ", differences,
          "; try the same flags, or another --checkpoint folder");
}

}  // namespace accrue::examples
