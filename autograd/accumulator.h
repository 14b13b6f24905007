// Accumulator: how one GradBuffer adds. A new one is a short file: see kahan.cpp.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "accrue/core/kernels.h"
#include "accrue/core/ordinal.h"

namespace accrue {

class GradBuffer;
struct ParameterState;

/// What may be asserted over splits of a batch: equal within error_bound(), or nothing.
enum class SplitEquality { bounded, none };

/// What a fold may know of its cycle.
struct CycleFacts {
  CycleIndex index;
  MicroStep micro;             // micro-batches done before this one
  int64_t micro_batches = -1;  // of the whole cycle; −1: not known beforehand
  double divisor = -1;         // what the sums will be divided by; −1: not known beforehand
  bool shares = false;         // losses are parts of a mean, without counts
};

struct Accumulator {
  struct State {
    std::string name;
    DType dtype;
    Shape shape = {};  // rank 0: the parameter's
  };
  virtual ~Accumulator() = default;
  virtual std::string_view name() const = 0;
  /// True: kernels deposit straight into "sum". False: a micro-batch's gradient is collected first,
  /// then folded once; this costs the bytes of one parameter's gradient at a time.
  virtual bool fused() const = 0;

  // What it declares. A cycle refuses combinations that cannot work; tests are made from it.
  virtual SplitEquality split_equality() const { return SplitEquality::bounded; }
  /// "sum" is the sum so far after every micro-batch, not only once it is finished.
  virtual bool running_sum() const { return true; }
  /// A micro-batch's gradient must be whole when it is folded; parts of it will not do.
  virtual bool whole_micro() const { return false; }
  /// Folds change nothing but the buffer: a cycle can be discarded, skipped, replayed.
  virtual bool undoable() const { return true; }
  /// finish() may have to refuse.
  virtual bool may_overflow() const { return false; }
  /// After a cycle's first one, every micro-batch's kernels are the same: a graph can replay them.
  virtual bool replays() const { return fused(); }
  /// Folds need CycleFacts::divisor: the batch declares its count(), or losses are shares.
  virtual bool needs_divisor() const { return false; }
  /// What is left is right where a filter drops micro-batches of the number that was announced.
  virtual bool bears_drops() const { return !needs_divisor(); }
  /// A gradient that is not finite shows in the sum, so that its cycle is skipped.
  virtual bool shows_non_finite() const { return true; }
  /// Throws BadArgument if it cannot serve this parameter.
  virtual void check(const ParameterState&) const {}
  /// Bound of |sum − exact sum| / Σ|additions| after K additions: of deposits where fused, else of
  /// micro-batches' gradients, in which deposits of a tied weight add in the master's dtype.
  virtual double error_bound(int64_t additions) const = 0;
  /// Bytes a weight between micro-batches, after K of them; at most, where it depends on the shape.
  virtual double bytes_per_weight(int64_t micro_batches, DType wide = DType::f32) const;

  /// What lies in the buffer; "sum" is what the optimizer reads. `wide` is the master's dtype. A
  /// name that ends in `?` has memory, and an address, from its first use to the cycle's end.
  virtual std::vector<State> state(DType wide, const Shape&) const { return {{"sum", wide}}; }
  /// Integers that it keeps, from cycle to cycle; zero at first.
  virtual std::vector<std::string> numbers() const { return {}; }
  /// Whether a state says anything now: what a checkpoint must hold of a cycle under way.
  virtual bool live(const GradBuffer&, std::string_view) const { return true; }
  /// Folded only: adds one micro-batch's gradient. Write::set: the first of the cycle.
  virtual void fold(GradBuffer& buffer, In micro, Write write) const;
  /// Leaves the raw sum in "sum". False: it cannot; the cycle must run again, and has learned.
  virtual bool finish(GradBuffer&) const { return true; }
};

/// By name pattern; the first match wins; no match: f32.
using Accumulators = std::vector<std::pair<std::string, std::shared_ptr<const Accumulator>>>;

}  // namespace accrue
