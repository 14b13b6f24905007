// The engine without kernels: what recording, depositing and allocating cost by themselves.
#pragma once
#include <cstdint>

namespace accrue::bench {

struct EngineCost {
  int64_t operations;   // on the tape of one micro-batch
  double microseconds;  // per operation, forward plus backward
};
/// GPT-2 124M's tape on a backend whose kernels do nothing.
EngineCost engine_cost(int64_t micro_batches);

}  // namespace accrue::bench
