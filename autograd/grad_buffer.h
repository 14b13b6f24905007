// GradBuffer: the accumulating object of one parameter in one cycle. It holds the raw, unnormalised
// sum at an address that is fixed for its cycle object's life.
//
//   empty ──first deposit──▶ open ──close──▶ closed ──step or discard──▶ empty
//
// Nobody clears it: the first deposit of a cycle sets. Empty at close means: exactly zero.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "accrue/autograd/accumulator.h"
#include "accrue/autograd/module.h"

namespace accrue {

class GradBuffer {
 public:
  enum class Life : uint8_t { empty, open, closed };

  GradBuffer(std::shared_ptr<ParameterState> parameter,
             std::shared_ptr<const Accumulator> accumulator);
  GradBuffer(const GradBuffer&) = delete;

  const std::string& parameter() const { return parameter_->name; }
  const std::shared_ptr<ParameterState>& parameter_state() const { return parameter_; }
  const Accumulator& accumulator() const { return *accumulator_; }
  Life life() const { return life_; }
  bool touched() const { return touched_; }

  /// Part of the accumulator's state, by the name it declared. Throws BadArgument on another.
  Tensor& state(std::string_view name);
  const Tensor& state(std::string_view name) const;
  /// The raw sum over the cycle; absent where nothing was deposited, which means exactly zero.
  In sum() const;

  // Within a micro-batch.
  /// The place for the next deposit: the sum itself (fused), or this micro-batch's gradient
  /// (folded). Throws BadOrder on a closed buffer.
  Deposit place();
  /// An operation was recorded that will deposit here, or will not.
  void expect() { ++pending_; }
  /// It has been through backward. After the last one a folded buffer folds.
  void used();
  /// Folds what is there. For schedules in which several micro-batches are under way.
  void fold();
  /// The micro-batch is over, or was left before its backward: folds, expects nothing more.
  void settle();

  // Between micro-batches.
  void close();
  void clear();
  void visit(Visitor& part);

 private:
  std::shared_ptr<ParameterState> parameter_;
  std::shared_ptr<const Accumulator> accumulator_;
  std::vector<std::pair<std::string, Tensor>> states_;
  Tensor micro_;  // a folded accumulator's gradient of the running micro-batch; empty: none
  int64_t pending_ = 0;
  bool touched_ = false;
  Life life_ = Life::empty;
};

}  // namespace accrue
