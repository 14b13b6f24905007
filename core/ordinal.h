// Counters that cannot be mixed up: a schedule takes a Step and cannot be handed a MicroStep.
#pragma once
#include <compare>
#include <cstdint>

namespace accrue {

template <class Tag>
struct Ordinal {
  int64_t value = 0;
  constexpr Ordinal() = default;
  constexpr explicit Ordinal(int64_t v) : value(v) {}
  auto operator<=>(const Ordinal&) const = default;
};

using Seed = Ordinal<struct SeedTag>;
using MicroStep = Ordinal<struct MicroStepTag>;    // micro-batches done in this cycle
using Step = Ordinal<struct StepTag>;              // optimizer steps done
using CycleIndex = Ordinal<struct CycleIndexTag>;  // cycles closed; skipped ones count too

}  // namespace accrue
