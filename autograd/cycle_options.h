// What a cycle can be told: how it adds, what it drops, when it is read, what its bits depend on.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "accrue/autograd/accumulators.h"
#include "accrue/autograd/consumption.h"
#include "accrue/autograd/filter.h"
#include "accrue/autograd/loss_scale.h"

namespace accrue {

/// What the bits of a cycle's sums depend on, beside program, machine and data.
enum class Reproducible : uint8_t {
  run,    // the micro-batch size
  split,  // not the micro-batch size: granule by granule, in the order of samples
  ranks,  // nor the number of ranks, a power of two: by a tree over the granules
};
std::string_view name_of(Reproducible);
/// By name; throws BadArgument that lists the names.
Reproducible parse_reproducible(std::string_view name);

struct CycleOptions {
  Accumulators accumulate = {};                // default: f32
  std::shared_ptr<const Filter> filter = {};   // default: none
  std::shared_ptr<Consumption> consume = {};   // default: at close
  std::shared_ptr<LossScale> loss_scale = {};  // default: none
  Reproducible reproducible = Reproducible::run;
  int64_t granule = 1;          // samples that `split` and `ranks` run at once
  bool skip_non_finite = true;  // step() skips a cycle whose loss or gradient is not finite
  bool noise_scale = false;     // measure the first micro-batch's norm: see ClosedCycle::prefix
  /// Where the device has graphs: run() calls the closure for at least two micro-batches of a kind
  /// (of one size and type of closure, the cycle's first or a later one), and replays its kernels
  /// for all others. So it must do nothing but operations on parameters and on tensors that the batch lists in
  /// `void visit(Visitor&)`: what else it does is not done again, and numbers that it computes on
  /// the host stay what they were. Frozen weights in bf16 or f16 may be changed by optimizers only.
  /// Bits do not change. What cannot be replayed runs as ever: see Cycle::graphs().
  bool graphs = false;
  /// run() calls it after each micro-batch (cycle operations: after all): save, or throw to stop.
  std::function<void(MicroStep done)> at_edge = {};
};

/// What happened to one micro-batch.
struct MicroRecord {
  int64_t samples = 0;
  double loss = 0, count = 0;  // sums; count 0: dropped
  double factor = 1;           // the filter's
  bool non_finite = false;     // the loss, or the gradient where its norm is known
  int64_t bytes = 0;           // handed out by the allocator when backward began
  double milliseconds = 0;     // forward and backward; 0 where a whole cycle is under way at once
  std::optional<double> gradient_norm, cosine;  // where the filter asked for them
};

/// What became of CycleOptions::graphs.
struct GraphUse {
  int64_t captured = 0, replayed = 0, eager = 0;  // graphs; micro-batches
  std::string why_eager;                          // the last one that was
};

/// A cycle's first micro-batch that counts, for the gradient noise scale: ‖A₁/n₁‖² and n₁.
struct Prefix {
  double squared_norm, count;
};

}  // namespace accrue
