// How far each accumulator's sum is from the exact one.
#pragma once
#include "gradients.h"

namespace accrue::examples {

/// Every accumulator of the library, and those of examples/accumulators that estimate the sum.
std::vector<std::shared_ptr<const Accumulator>> measured_accumulators();

struct Measured {
  std::string gradients, accumulator;
  int64_t micro_batches;
  double error;  // ‖sum − exact‖ / ‖exact‖ over all elements
  double bound;  // the same of what the accumulator declares; infinite where it declares none
};

/// The sum of the first K gradients by each accumulator, against f64, for K = 1, 2, 4, … and all.
std::vector<Measured> measure(const Gradients& gradients, const Progress& progress);

/// What `terms` equal terms of 1 add up to.
double sum_of_ones(const std::shared_ptr<const Accumulator>& accumulator, int64_t terms);

}  // namespace accrue::examples
