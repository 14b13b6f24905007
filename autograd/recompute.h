// Activation checkpointing of any interval of a model.
#pragma once
#include "accrue/autograd/tape.h"

namespace accrue {

/// Runs `part` and forgets what its operations saved; backward runs them again, with the same bits
/// (random numbers are keyed). Costs one more forward of `part`, saves its activations.
/// Source: Chen et al., "Training deep nets with sublinear memory cost", arXiv 1604.06174.
template <class F>
auto recompute(F&& part) {
  struct Interval {
    Tape* tape = Tape::current();
    Interval() {
      if (tape) tape->begin_interval();
    }
    ~Interval() {
      if (tape) tape->end_interval();
    }
  } interval;
  return part();
}

}  // namespace accrue
