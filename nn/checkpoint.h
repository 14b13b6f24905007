// Checkpoints: the whole state of a run in one safetensors file, written beside the training that
// goes on; damage detected, two kept.
#pragma once
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "accrue/autograd/module.h"
#include "accrue/core/ordinal.h"

namespace accrue {

/// Saves and loads everything that its parts list to a Visitor: parameters (their masters),
/// tensors, integers, texts and the seeds of random sites. A file holds all parts at one edge
/// between two micro-batches, is written whole or not at all, and carries an XXH3-128 checksum over
/// all its bytes.
class Checkpoint {
 public:
  /// Files lie in `folder`, which save() makes where needed. They are called step-12.safetensors
  /// between two cycles, and step-12-micro-3.safetensors within the one that follows step 12.
  explicit Checkpoint(std::string folder);
  /// Waits for the last write, but has nobody to tell of a failure: call wait() before.
  ~Checkpoint();
  Checkpoint(const Checkpoint&) = delete;

  /// Adds a part: a model, an optimizer, a cycle, a loader, or a single integer, text or tensor.
  /// The part must stay where it is while this object lives. Where its visit() throws, loading
  /// fails with that error and changes nothing: parts are compared in the order of these calls.
  template <class M>
  Checkpoint& part(std::string_view name, M& one) {
    parts_.push_back([&one, name = std::string(name)](Visitor& visitor) { visitor(name, one); });
    return *this;
  }

  /// Makes the folder. Writing does so too; asked early, a bad name shows before the work begins.
  void make_folder() const;
  /// The file of this edge.
  std::string path(Step step, MicroStep micro = {}) const;
  /// Copies all parts into host memory, which is kept for the next save, and returns; another
  /// thread writes the file while one more sums it, and then removes all but it and the newest
  /// earlier one that is not known to be damaged. Waits first for the write of the save before. In
  /// a dry run only the memory is counted.
  /// Throws Failure with what went wrong in the write *before*, which this call replaces, once its
  /// own has begun; files that were there are then intact. Throws BadOrder if the folder holds a
  /// later edge that this object neither saved nor loaded, OutOfMemory if there is no room for the
  /// copy.
  void save(Step step, MicroStep micro = {});
  /// Waits until the last save() lies on the disk. Throws Failure if it does not.
  void wait();
  /// Takes the newest file whose checksum holds; later damaged ones are named in warnings().
  /// All parts are compared with the file before the first is changed. False: there is no file.
  /// Throws BadArgument if all files are damaged, if the newest whole one has another format, or if
  /// names, shapes or dtypes do not fit the parts, which are then untouched.
  bool load();
  /// Whether the folder holds a checkpoint, damaged or not.
  bool exists() const;
  /// What the last load() passed over, and why.
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  void visit(Visitor& visitor) const {
    for (const auto& part : parts_) part(visitor);
  }
  void settle();
  void report();

  std::string folder_;
  std::vector<std::function<void(Visitor&)>> parts_;
  std::vector<std::string> warnings_;
  std::vector<std::string> damaged_;  // paths that load() passed over; the next write removes them
  std::string newest_;                // path of the last file that was written or loaded
  std::string failure_;               // of the last write, until it is reported
  std::unique_ptr<Storage> memory_;   // kept for the next file
  // Of the path. It reads memory_, so it must be destroyed, which waits, before it.
  std::future<std::string> writing_;
};

}  // namespace accrue
