// train_gpt --find-lr: a short sweep of the learning rate, a table, a suggestion.
#pragma once
#include "training.h"

namespace accrue::examples {

void find_lr(const Options& options, const Data& data);

}  // namespace accrue::examples
