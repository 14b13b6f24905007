// Consumption: when an optimizer reads the sums. By default at close, by step().
#pragma once
#include <string_view>

#include "accrue/autograd/grad_buffer.h"

namespace accrue {

struct CycleOptions;

struct Consumption {
  virtual ~Consumption() = default;
  virtual std::string_view name() const = 0;
  /// Throws BadArgument, with what to use instead, if it cannot serve a cycle of these parameters.
  virtual void check(const CycleOptions& options, const Parameters& parameters) const = 0;
  /// The parameter had its last use and last deposit of the cycle: reads the sum, updates the
  /// parameter. `divisor`: the sums over it are the mean gradient. Not called where nothing counts.
  virtual void consume(GradBuffer& buffer, Step step, double divisor) = 0;
};

}  // namespace accrue
