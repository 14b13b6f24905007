// What a cycle can be told: how it adds, what it drops, when it is read, what its bits depend on.
#pragma once
#include <functional>
#include <memory>
#include <optional>

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
  /// Called between micro-batches with the number done: save a checkpoint, or throw to stop.
  std::function<void(MicroStep)> at_edge = {};
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

/// A cycle's first micro-batch that counts, for the gradient noise scale: ‖A₁/n₁‖² and n₁.
struct Prefix {
  double squared_norm, count;
};

}  // namespace accrue
