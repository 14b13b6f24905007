// What bench_kernels measures: calls on random data, and what each must move or compute.
#pragma once
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "accrue/core/kernels.h"

namespace accrue::bench {

struct KernelSizes {
  Device device;
  DType dtype = DType::bf16;  // of activations
  int64_t mib = 256;          // of the largest tensor
  int repeats = 9;
  std::string only;  // rows whose name contains this

  bool wants(const std::string& name) const { return name.find(only) != std::string::npos; }
};

/// A call, and the fewest bytes that it must move: each input read once, each output written once.
struct BandwidthCall {
  std::function<void()> launch;
  double bytes;
};
struct BandwidthRow {
  std::string name;
  std::function<BandwidthCall()> make;  // with its tensors, which live as long as the call
};
std::vector<BandwidthRow> activation_rows(const KernelSizes& sizes);
std::vector<BandwidthRow> loss_rows(const KernelSizes& sizes);
std::vector<BandwidthRow> weight_rows(const KernelSizes& sizes);

/// Causal attention forward and backward: by the device's own kernels, with dropout and without,
/// and by cuDNN where that takes it. TFLOP/s of 2·B·H·T²·D forward and 5·B·H·T²·D backward.
nlohmann::ordered_json attention_rows(const KernelSizes& sizes);

/// The gradient of a head's weight [V, C] in f32 from one chunk of rows, added to what is there:
/// by the product itself, by an f32 temporary and an addition, and by a bf16 result, its f32 copy
/// and an addition.
struct WeightGradient {
  int64_t vocabulary = 131'072, hidden = 4096, rows = 2048;
};
nlohmann::ordered_json weight_gradient_rows(const KernelSizes& sizes, const WeightGradient& what);

}  // namespace accrue::bench
