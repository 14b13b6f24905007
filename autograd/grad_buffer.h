// GradBuffer: the accumulating object of one parameter in one cycle. It holds the raw, unnormalised
// sum at an address that is fixed for its cycle object's life. On a tape it is its parameter's leaf.
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
#include "accrue/autograd/node.h"

namespace accrue {

class GradBuffer final : public Node {
 public:
  enum class Life : uint8_t { empty, open, closed };
  /// When a micro-batch's gradient is folded: as soon as it is complete, or when a filter says so.
  enum class Folds : uint8_t { at_last_use, when_judged };

  /// `facts`: of the cycle that owns the buffer; may be absent.
  GradBuffer(std::shared_ptr<ParameterState> parameter,
             std::shared_ptr<const Accumulator> accumulator, const CycleFacts* facts = nullptr,
             Folds folds = Folds::at_last_use);
  GradBuffer(const GradBuffer&) = delete;

  const std::string& parameter() const { return parameter_->name; }
  const std::shared_ptr<ParameterState>& parameter_state() const { return parameter_; }
  const Accumulator& accumulator() const { return *accumulator_; }
  const CycleFacts& facts() const { return *facts_; }
  Life life() const { return life_; }
  bool touched() const { return touched_; }

  /// Part of the accumulator's state, by the name it declared. Throws BadArgument on another.
  Tensor& state(std::string_view name);
  const Tensor& state(std::string_view name) const;
  /// The same, without giving it memory.
  Tensor& slot(std::string_view name);
  int64_t& number(std::string_view name);
  int64_t number(std::string_view name) const;
  /// The raw sum over the cycle; absent where nothing was deposited, which means exactly zero.
  In sum() const;

  // Within a micro-batch.
  /// The place for the next deposit: the sum itself (fused), or this micro-batch's gradient
  /// (folded). Throws BadOrder on a closed buffer.
  Deposit place() override;
  /// An operation was recorded that will deposit here, or will not.
  void expect() override { ++pending_; }
  /// It has been through backward. After the last one a folded buffer folds.
  void used() override;
  Tensor input() const override { return parameter_->working(); }
  const std::string* owner() const override { return &parameter_->name; }
  /// This micro-batch's gradient; absent where it is not collected.
  Tensor& micro() { return micro_; }
  /// Folds what is there. For schedules in which several micro-batches are under way.
  void fold();
  /// The micro-batch is over, or was left before its backward: folds, expects nothing more.
  void settle();
  /// Where a graph left it: a replay makes the deposits, and a graph's making none.
  void leave(bool touched);
  /// This micro-batch's gradient times the factor; 0 forgets it.
  void weigh(double factor);
  /// Called once in the last micro-batch, when the sum is final: see consumption.h.
  void when_final(std::function<void(GradBuffer&)> call) { when_final_ = std::move(call); }

  // Between micro-batches.
  /// Leaves the raw sum in "sum". False: the cycle must run again.
  bool finish();
  /// The optimizer has read the sum already, in backward.
  bool consumed() const { return consumed_; }
  void close();
  void clear();
  /// Its cycle is no more, but a Var still holds it: gives all memory back, takes no deposit.
  void orphan();
  void visit(Visitor& part);

 private:
  void declare();
  void free_temporaries();
  size_t index_of(std::string_view state) const;
  Tensor& at(size_t state);

  std::shared_ptr<ParameterState> parameter_;
  std::shared_ptr<const Accumulator> accumulator_;
  const CycleFacts* facts_;
  Folds folds_;
  std::vector<Accumulator::State> declared_;
  size_t sum_ = 0;  // which of them is "sum"; past the end: none
  std::vector<Tensor> states_;
  std::vector<bool> temporary_;  // states that give their memory back when the cycle ends
  std::vector<std::pair<std::string, int64_t>> numbers_;
  Tensor micro_;  // this micro-batch's gradient, where it is collected; empty: none
  std::function<void(GradBuffer&)> when_final_;
  int64_t pending_ = 0;
  bool touched_ = false, finished_ = false, consumed_ = false;
  Life life_ = Life::empty;
};

}  // namespace accrue
