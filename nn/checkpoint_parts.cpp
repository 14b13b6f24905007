// Parts against a file: all are compared before the first is changed.
#include "accrue/nn/checkpoint_parts.h"

#include <charconv>
#include <map>
#include <set>
#include <system_error>

#include "accrue/core/error.h"
#include "accrue/nn/checkpoint_file.h"

namespace accrue::checkpoint {

std::optional<int64_t> parse_integer(std::string_view digits) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

namespace {

/// Compares the parts with a file, and then copies it into them.
class Loading {
 public:
  using Walk = std::function<void(Visitor&)>;
  Loading(const SafetensorsFile& file, const std::string& path, const Walk& walk)
      : file_(file), path_(path), walk_(walk) {}

  void run() {
    try {
      compare();
    } catch (...) {
      restore();
      throw;
    }
    Visitor copy(
        {.parameter =
             [&](const std::string& name, Parameter& part) {
               file_.load(name, part.state()->master);
               part.state()->changed();
             },
         .tensor = [&](const std::string& name, Tensor& part) { file_.load(name, part); }});
    walk_(copy);
  }

 private:
  // Small things are set at once, because a part may list tensors as they say (a cycle under way
  // lists its sums); tensors are only compared. What was there before is kept for restore().
  void compare() {
    Visitor visitor(
        {.parameter = [&](const std::string& name,
                          Parameter& part) { fits(name, part.state()->master); },
         .site = [&](const std::string& name,
                     RandomSite& part) { take(seed_key(name), part.seed.value); },
         .tensor = [&](const std::string& name, Tensor& part) { fits(name, part); },
         .integer = [&](const std::string& name, int64_t& part) { take(integer_key(name), part); },
         .text =
             [&](const std::string& name, std::string& part) {
               old_texts_.emplace(name, part);
               part = stored(text_key(name));
             }});
    walk_(visitor);
    for (const std::string& name : file_.names()) refuse_unknown(name);
    for (const auto& [key, value] : file_.metadata())
      if (key != checksum_key && key != format_key) refuse_unknown(key);
  }

  void restore() {
    const auto back = [&](const std::string& key, int64_t& part) {
      if (const auto old = old_integers_.find(key); old != old_integers_.end()) part = old->second;
    };
    Visitor visitor(
        {.site = [&](const std::string& name,
                     RandomSite& part) { back(seed_key(name), part.seed.value); },
         .integer = [&](const std::string& name, int64_t& part) { back(integer_key(name), part); },
         .text =
             [&](const std::string& name, std::string& part) {
               if (const auto old = old_texts_.find(name); old != old_texts_.end())
                 part = old->second;
             }});
    try {
      walk_(visitor);
    } catch (...) {  // a part that refused compare() refuses again; those before it are restored
    }
  }

  void fits(const std::string& name, const Tensor& tensor) {
    require(file_.contains(name), "[checkpoint] expected ", name, " in '", path_,
            "', got no such tensor; try the sizes and variant that it was saved with");
    const SafetensorsInfo& info = file_.info(name);
    require(tensor && info.shape == tensor.shape() && info.dtype == tensor.dtype(),
            "[checkpoint] expected ", tensor.dtype(), tensor.shape(), " for ", name, ", got ",
            info.stored, info.shape, " in '", path_, "'; try the sizes that it was saved with");
    known_.insert(name);
  }

  void take(const std::string& key, int64_t& part) {
    const auto value = parse_integer(stored(key));
    require(value.has_value(), "[checkpoint] expected a whole number for ", key, " in '", path_,
            "', got '", stored(key), "'; was the file edited?");
    old_integers_.emplace(key, part);
    part = *value;
  }

  const std::string& stored(const std::string& key) {
    const auto found = file_.metadata().find(key);
    require(found != file_.metadata().end(), "[checkpoint] expected ", key, " in '", path_,
            "', got none; try the program and the variant that it was saved with");
    known_.insert(key);
    return found->second;
  }

  void refuse_unknown(const std::string& name) const {
    require(known_.contains(name), "[checkpoint] expected parts for all of '", path_,
            "', got none for ", name, "; try the sizes and variant that it was saved with");
  }

  const SafetensorsFile& file_;
  const std::string& path_;
  const Walk& walk_;
  std::set<std::string> known_;
  std::map<std::string, int64_t> old_integers_;
  std::map<std::string, std::string> old_texts_;
};

}  // namespace

void load_parts(const SafetensorsFile& file, const std::string& path,
                const std::function<void(Visitor&)>& walk) {
  Loading(file, path, walk).run();
}

}  // namespace accrue::checkpoint
