// What decides a run, kept in its checkpoints: a resumed run must have the same flags.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "accrue/autograd/module.h"

namespace accrue::examples {

/// The first part of a checkpoint, so that its error, which names flags, comes before those that
/// name shapes.
class Identity {
 public:
  /// `flags`: every flag with its value as text. Those that cannot change the weights are dropped.
  /// `data`: what stands for the text to train on, wherever its file lies. `by_micro_batches`:
  /// micro-batches of another size would be another computation, not only other roundings.
  Identity(std::map<std::string, std::string> flags, const std::string& data,
           bool by_micro_batches);

  /// After loading: flags that differ and may, and what that means.
  const std::vector<std::string>& notes() const { return notes_; }
  /// Throws BadArgument, naming each difference, if it is given the flags of another run.
  void visit(Visitor& part);

 private:
  void compare(const std::string& stored);

  bool by_micro_batches_;
  std::map<std::string, std::string> flags_;
  std::vector<std::string> notes_;
};

}  // namespace accrue::examples
