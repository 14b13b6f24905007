// The flags that say how train_gpt's cycles add, filter and are read.
#pragma once
#include <optional>
#include <string>

#include "../command_line.h"
#include "accrue/accrue.h"
#include "accrue/optim/consumption.h"

namespace accrue::examples {

constexpr double f16_loss_scale = 65536;  // where it starts unless told

struct Accumulation {
  std::string accumulate = "f32", filter, consume = "close", reproducible = "run";
  int64_t granule = 1;
  bool skip_non_finite = true;
  std::optional<double> loss_scale;  // where it starts; unset: none, or f16_loss_scale
};

void add_accumulation_flags(CLI::App& app, Accumulation& choice);
/// Throws WrongUsage, naming the flag, on unknown words.
void check(const Accumulation& choice);
/// What a cycle says of impossible choices, its advice in the words of the flags.
std::string in_flags(std::string message, const Accumulation& choice);
/// None, unless the flags ask for one or the dtype needs one.
std::shared_ptr<LossScale> loss_scale_for(const Accumulation& choice, DType dtype);
/// Throws WrongUsage where an accumulator cannot add so many micro-batches in one cycle.
void check_micro_batches(const Accumulation& choice, int64_t most);
/// Whether the chosen accumulator, filter or consumption is another computation, beyond rounding,
/// where micro-batches have another size.
bool depends_on_micro_batches(const Accumulation& choice);
/// The options of a cycle whose parameters these two optimizers step. They must outlive it.
CycleOptions cycle_options(const Accumulation& choice, Seed seed, std::shared_ptr<LossScale> scale,
                           AdamW& matrices, AdamW& vectors);

}  // namespace accrue::examples
