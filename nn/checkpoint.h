// Checkpoints: the whole state of a run in one safetensors file, damage detected, two kept.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "accrue/autograd/module.h"
#include "accrue/core/ordinal.h"

namespace accrue {

/// Saves and loads everything that its parts list to a Visitor: parameters (their masters),
/// tensors, integers, texts and the seeds of random sites. A file holds all parts at one Step, is
/// written whole or not at all, and carries a SHA-256 over its contents.
class Checkpoint {
 public:
  /// Files are called step-N.safetensors and lie in `folder`, which save() makes where needed.
  explicit Checkpoint(std::string folder) : folder_(std::move(folder)) {}

  /// Adds a part: a model, an optimizer, a cycle, a loader, or a single integer, text or tensor.
  /// The part must stay where it is while this object lives.
  template <class M>
  Checkpoint& part(std::string_view name, M& one) {
    parts_.push_back([&one, name = std::string(name)](Visitor& visitor) { visitor(name, one); });
    return *this;
  }

  /// Makes the folder. save() does so too; asked early, a bad name shows before the work begins.
  void make_folder() const;
  /// Writes one file and removes all but it and the newest earlier one that load() found whole.
  /// Throws BadOrder if the folder holds a later step that was not loaded, Failure where the system
  /// refuses; files that were there are then intact.
  void save(Step step);
  /// Takes the newest file whose checksum holds; earlier damaged ones are named in warnings().
  /// All parts are compared with the file before the first is changed. False: there is no file.
  /// Throws BadArgument if all files are damaged, or if names, shapes or dtypes do not fit the
  /// parts, which are then untouched.
  bool load();
  /// Whether the folder holds a checkpoint, damaged or not.
  bool exists() const;
  /// What the last load() passed over, and why.
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  void visit(Visitor& visitor) const {
    for (const auto& part : parts_) part(visitor);
  }

  std::string folder_;
  std::vector<std::function<void(Visitor&)>> parts_;
  std::vector<std::string> warnings_;
  std::vector<std::string> damaged_;  // paths that load() passed over; save() removes them
};

}  // namespace accrue
