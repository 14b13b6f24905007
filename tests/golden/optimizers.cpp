// Every optimizer's path through twenty stored gradients against PyTorch's.
#include <memory>

#include "accrue/core/safetensors.h"
#include "support.h"

namespace accrue::test {
namespace {

struct Point {
  Parameter weight{Shape{12}, zeros()};
  void visit(Visitor& part) { part("weight", weight); }
};

using Make = std::function<std::unique_ptr<Optimizer>(const Parameters&)>;
const AdamConfig adam{
    .lr = 0.02, .beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .weight_decay = 0.1};
const std::vector<std::pair<std::string, Make>> optimizers{
    {"sgd", [](auto& p) { return std::make_unique<Sgd>(p, SgdConfig{.lr = 0.1}); }},
    {"sgd_momentum",
     [](auto& p) { return std::make_unique<Sgd>(p, SgdConfig{.lr = 0.05, .momentum = 0.9}); }},
    {"sgd_nesterov",
     [](auto& p) {
       return std::make_unique<Sgd>(
           p, SgdConfig{.lr = 0.05, .momentum = 0.9, .weight_decay = 0.1, .nesterov = true});
     }},
    {"adam", [](auto& p) { return std::make_unique<Adam>(p, adam); }},
    {"adamw", [](auto& p) { return std::make_unique<AdamW>(p, adam); }}};

// The weights after each of twenty cycles, whose gradient comes in `micro_batches` equal parts, and
// was rounded to `rounded` before.
Numbers walk(const SafetensorsFile& file, const Make& make, Where where, int64_t micro_batches,
             DType rounded) {
  Point point;
  initialize(point, {where.device, where.dtype}, Seed{1});
  const Tensor start = file.tensor("start", Device::reference()),
               all = file.tensor("gradients", Device::reference());
  launch(where.device, kernel::Copy{start.in(), point.weight.state()->master.out(), Write::set});
  const auto optimizer = make(parameters(point));
  Cycle cycle(parameters(point));
  Numbers path;
  for (int64_t step = 0; step < 20; ++step) {
    const Tensor stored = tensor_of({12}, all.slice(step, 1).to_vector(), {where.device, rounded});
    const Tensor gradient = tensor_of({12}, stored.to_vector(), where);
    const Rows rows = random_rows(micro_batches, 1, 1, where, 1);
    optimizer->step(cycle.run(rows, {.samples = 1}, [&](const Rows&) {
      return Loss(sum(point.weight * Var(gradient)), 1);  // its gradient is the stored one
    }));
    for (double number : point.weight.master().to_vector()) path.push_back(number);
  }
  return path;
}

}  // namespace

TEST_CASE("twenty steps of every optimizer go where PyTorch's go") {
  const SafetensorsFile file(
      (source_root() / "tests" / "golden" / "optimizers.safetensors").string());
  for (const auto& [name, make] : optimizers)
    // A step rounds a weight some five times; twenty of them stay below 100·u, doubled for
    // momentum.
    for (const auto& [where, tolerance] : {std::pair{exact(), 200 * u_f64},
                                           {Where{Device::reference(), DType::f32}, 1e-5},
                                           {Where{Device::cpu(), DType::f32}, 1e-5}})
      for (int64_t micro_batches : {1, 4}) {
        const double error = relative_error(walk(file, make, where, micro_batches, where.dtype),
                                            file.tensor(name, Device::reference()).to_vector());
        CHECK_MESSAGE(error <= tolerance, name << " on " << text_of(where) << ": " << error);
      }
}

TEST_CASE("in bf16, optimizers go where gradients rounded to bf16 lead f32 masters") {
  const SafetensorsFile file(
      (source_root() / "tests" / "golden" / "optimizers.safetensors").string());
  for (const auto& [name, make] : optimizers)
    for (const Device device : {Device::reference(), Device::cpu()})
      for (int64_t micro_batches : {1, 4}) {
        const Numbers path = walk(file, make, {device, DType::bf16}, micro_batches, DType::bf16);
        const auto error = [&](DType rounded) {
          return relative_error(path, walk(file, make, exact(), micro_batches, rounded));
        };
        CAPTURE(name);
        CHECK(error(DType::bf16) <= 1e-5);
        CHECK(error(DType::f64) > 1e-5);  // the rounding is seen
      }
}

TEST_CASE("one optimizer's path is not another's: the comparison can fail") {
  const SafetensorsFile file(
      (source_root() / "tests" / "golden" / "optimizers.safetensors").string());
  const Numbers adamw = walk(file, optimizers[4].second, exact(), 1, DType::f64);
  CHECK(relative_error(adamw, file.tensor("adam", Device::reference()).to_vector()) > 1e-3);
}

}  // namespace accrue::test
