// --verify: the gradients of one cycle against the same tapes in f64.
#pragma once
#include "training.h"

namespace accrue::examples {

/// Prints how long it will take, then every parameter's error, the worst first, and a JSON object.
/// Trains nothing; a cycle that is under way is verified from its beginning. Throws Failure if an
/// error exceeds what accumulator and arithmetic allow.
void verify(Training& training);

}  // namespace accrue::examples
