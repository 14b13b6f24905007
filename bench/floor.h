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

/// A product timed alone, on operands of distinct layers and random numbers, in both layouts of its
/// weight or activation.
class TimedGemm {
 public:
  TimedGemm(const Gemm& gemm, int64_t layers, Device device)
      : gemm_(gemm), layers_(layers), device_(device) {}

  /// The median of `repeats` sweeps over the layers joins those measured before.
  void measure(int repeats);

  const Gemm& gemm() const { return gemm_; }
  /// Of all its occurrences: the median of what was measured, in the better layout.
  double seconds() const;
  double rate() const { return gemm_.flops() / seconds() * 1e-9; }

 private:
  Gemm gemm_;
  int64_t layers_;
  Device device_;
  std::vector<double> seconds_[2];  // of one occurrence; as in the model, and the other layout
};

/// A batch of random tokens.
TokenBatch random_batch(const GptConfig& config, int64_t samples, Device device);

}  // namespace accrue::bench
