// train_gpt --dry-run: the peak of memory by tag, without training.
#pragma once
#include "training.h"

namespace accrue::examples {

void dry_run(Options options, const Data& data);

}  // namespace accrue::examples
