// A large weight's gradient into f32, in place and by temporaries.
#include <cstdio>

#include "kernel_rows.h"
#include "timing.h"

namespace accrue::bench {
namespace {

struct Way {
  const char* name;
  std::function<void()> run;
};

// sum += dlogitsᵀ·hidden. The tensors must outlive what is returned.
std::vector<Way> ways_to_add(Device device, const Tensor& dlogits, const Tensor& hidden,
                             Tensor& sum) {
  const auto product = [=, &dlogits, &hidden](Tensor& into, Write write) {
    launch(device, kernel::Matmul{dlogits.transpose(0, 1).in(), hidden.in(), into.out(), write});
  };
  const auto add = [=, &sum](const Tensor& term) {
    launch(device, kernel::Map<fold::Add>{{}, {sum.out()}, {term.in()}});
  };
  return {{"in place", [=, &sum] { product(sum, Write::add); }},
          {"f32 temporary, add",
           [=, &sum] {
             Tensor term(sum.shape(), DType::f32, device);
             product(term, Write::set);
             add(term);
           }},
          {"bf16 result, f32 copy, add", [=, &sum] {
             Tensor result(sum.shape(), DType::bf16, device), term(sum.shape(), DType::f32, device);
             product(result, Write::set);
             launch(device, kernel::Copy{result.in(), term.out(), Write::set});
             add(term);
           }}};
}

}  // namespace

nlohmann::ordered_json weight_gradient_rows(const KernelSizes& sizes, const WeightGradient& what) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  if (!sizes.wants("weight gradient")) return rows;
  const Device device = sizes.device;
  const Shape weight{what.vocabulary, what.hidden};
  const Tensor dlogits = random_tensor({what.rows, what.vocabulary}, DType::bf16, device);
  const Tensor hidden = random_tensor({what.rows, what.hidden}, DType::bf16, device);
  Tensor sum = random_tensor(weight, DType::f32, device);
  Allocator& memory = *device.backend->memory;
  const auto operands = static_cast<int64_t>(dlogits.bytes() + hidden.bytes() + sum.bytes());
  double in_place = 0;
  for (const auto& [name, run] : ways_to_add(device, dlogits, hidden, sum)) {
    memory.reset_peak();
    const int64_t before = memory.use().total;
    const double seconds = seconds_per_call(device, sizes.repeats, run);
    const int64_t extra = memory.use().peak_total - before;
    if (in_place == 0) in_place = seconds;
    const double tflops =
        2.0 * static_cast<double>(what.rows * weight.elements()) / seconds * 1e-12;
    std::fprintf(stderr, "  weight gradient, %-28s %10.3f ms %8.2f TFLOP/s %8.0f MiB more\n", name,
                 seconds * 1e3, tflops, static_cast<double>(extra) / (1 << 20));
    rows.push_back({{"way", name},
                    {"milliseconds", seconds * 1e3},
                    {"over_in_place", seconds / in_place},
                    {"tflops", tflops},
                    {"extra_peak_bytes", extra},
                    {"peak_bytes", operands + extra}});
  }
  return rows;
}

}  // namespace accrue::bench
