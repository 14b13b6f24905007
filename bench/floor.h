// The floor of a training cycle: what its matrix products and its optimizer's bytes cost alone.
#pragma once
#include <cstdint>
#include <vector>

#include "accrue/accrue.h"
#include "timing.h"

namespace accrue::bench {

/// One matrix product of a micro-batch, and how often it occurs.
struct Gemm {
  int64_t m, n, k;
  bool a_transposed, b_transposed, weight;  // weight: b is a parameter's working copy
  DType in, out;
  Write write;
  int64_t times = 1;

  double flops() const { return 2.0 * m * n * k * times; }
};

/// The products of one micro-batch, by a dry run of the model that logs them; the logits in chunks
/// of so many rows.
std::vector<Gemm> gemms_of(const GptConfig& config, DType dtype, int64_t micro_batch, int64_t chunk,
                           Device device);

struct Measured {
  Gemm gemm;
  double seconds;  // of all its occurrences
  double rate() const { return gemm.flops() / seconds * 1e-9; }
};

/// Times each product alone on operands of distinct layers, random numbers, in the better of the
/// two layouts of its weight or activation. The median of `repeats` sweeps over the layers.
std::vector<Measured> measure(const std::vector<Gemm>& gemms, int64_t layers, int repeats,
                              Device device);

/// A batch of random tokens.
TokenBatch random_batch(const GptConfig& config, int64_t samples, Device device);

}  // namespace accrue::bench
