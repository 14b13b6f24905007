// bench_kernels: kernels by themselves, against the copy bandwidth of the same run.
#include <cstdio>

#include "../examples/command_line.h"
#include "kernel_rows.h"
#include "timing.h"

using namespace accrue;
using namespace accrue::bench;

namespace {

// The copy is measured before and after: where the two differ, so does the machine.
nlohmann::ordered_json bandwidth_rows(const KernelSizes& sizes, double bandwidth) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const auto& all : {activation_rows(sizes), loss_rows(sizes), weight_rows(sizes)})
    for (const BandwidthRow& row : all) {
      if (!sizes.wants(row.name)) continue;
      const BandwidthCall call = row.make();
      const double seconds = seconds_per_call(sizes.device, sizes.repeats, call.launch);
      const double rate = call.bytes / seconds;
      std::fprintf(stderr, "  %-34s %10.3f ms %9.1f GB/s %6.2f of copy\n", row.name.c_str(),
                   seconds * 1e3, rate * 1e-9, rate / bandwidth);
      rows.push_back({{"kernel", row.name},
                      {"bytes", call.bytes},
                      {"milliseconds", seconds * 1e3},
                      {"gb_per_second", rate * 1e-9},
                      {"of_copy", rate / bandwidth}});
    }
  return rows;
}

// Whether gelu's slope is part of the product before it, in GPT-2's feed-forward layer.
bool fuses_slope(Device device) {
  const auto make = [&](int64_t rows, int64_t columns) {
    return Tensor({rows, columns}, DType::bf16, device);
  };
  const Tensor dy = make(4096, 768), proj = make(3072, 768), z = make(4096, 3072);
  Tensor dz = empty_like(z), y = empty_like(z);
  return cuda::fuses_slope(
      {kernel::UnaryFormula::gelu, dy.in(), proj.transpose(0, 1).in(), z.in(), dz.out(), y.out()});
}

}  // namespace

int main(int argc, char** argv) {
  return examples::run_program("bench_kernels", [&] {
    examples::CommandLine flags(
        "bench_kernels",
        "Times kernels on random data: bytes that must move over the copy bandwidth, attention, "
        "and a large weight's gradient added in place and by temporaries");
    std::string device = "cpu", dtype = "bf16";
    KernelSizes sizes;
    WeightGradient gradient;
    flags.add("--device", device, "", {"cpu", "cuda"});
    flags.add("--dtype", dtype, "of activations", {"f32", "bf16", "f16"});
    flags.add_positive("--mib", sizes.mib, "MiB of each kernel's tensors");
    flags.add_positive("--repeats", sizes.repeats);
    flags.add("--only", sizes.only,
              "rows whose name contains this; two rows are 'attention' and 'weight gradient'");
    flags.add_positive("--gradient-vocabulary", gradient.vocabulary);
    flags.add_positive("--gradient-hidden", gradient.hidden);
    flags.add_positive("--gradient-rows", gradient.rows);
    if (!flags.parse(argc, argv)) return;
    sizes.device = examples::device_named(device);
    sizes.dtype = dtype == "f32" ? DType::f32 : dtype == "f16" ? DType::f16 : DType::bf16;

    const double before = copy_bandwidth(sizes.device);
    nlohmann::ordered_json result{{"device", device},
                                  {"dtype", dtype},
                                  {"mib", sizes.mib},
                                  {"copy_gb_per_second", before * 1e-9}};
    result["kernels"] = bandwidth_rows(sizes, before);
    result["attention"] = attention_rows(sizes);
    result["weight_gradient"] = weight_gradient_rows(sizes, gradient);
    if (!sizes.device.on_host() && sizes.dtype == DType::bf16)
      result["slope_in_product"] = fuses_slope(sizes.device);
    result["copy_gb_per_second_after"] = copy_bandwidth(sizes.device) * 1e-9;
    std::printf("%s\n", result.dump().c_str());
  });
}
