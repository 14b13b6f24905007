// Cases of the optimizers: one call over weights of many sizes, one of which has no sum.
#include "kernels/cases.h"

namespace accrue::test {
namespace {

constexpr DType f32 = DType::f32, bf16 = DType::bf16, f16 = DType::f16;
const std::optional<DType> copy_types[] = {{}, bf16, f16};
const std::vector<Shape> weights{{1},       {3},         {7, 17}, {1023},
                                 {65, 127}, {131, 1027}, {9, 64}, {4, 1040}};
constexpr size_t without_sum = 2;
const Bound bound{16, 4};  // sums of a few terms below 1, with lr 0.1

/// Tensors that live as long as the launch that uses them.
class Group {
 public:
  Group(Stage& stage, DType sums, std::optional<DType> copies)
      : stage_(stage), sums_(sums), copies_(copies) {}

  In sum(size_t i) {
    if (i == without_sum) return {};
    return tensors_.emplace_back(stage_.random(weights[i], sums_)).in();
  }
  /// Read and written: weights, velocities, means.
  Out state(size_t i) {
    return tensors_.emplace_back(stage_.out(weights[i], f32, Write::add, bound)).out();
  }
  Out variance(size_t i) {
    const Out place = state(i);
    launch(Device::reference(),
           kernel::Binary{kernel::BinaryFormula::multiply, place, place, place, Write::set});
    return place;
  }
  Out copy(size_t i) {
    if (!copies_) return {};
    return tensors_.emplace_back(stage_.out(weights[i], *copies_, Write::set, bound)).out();
  }

 private:
  Stage& stage_;
  DType sums_;
  std::optional<DType> copies_;
  std::vector<Tensor> tensors_;
};

std::string name_of_copies(std::optional<DType> copies) {
  return copies ? text(" copies ", *copies) : "";
}

}  // namespace

Cases sgd_cases() {
  Cases cases;
  for (DType sums : activation_types)
    for (const auto& copies : copy_types)
      for (double momentum : {0.0, 0.9})
        for (bool nesterov : {false, true})
          for (double decay : {0.0, 0.3}) {
            if (momentum == 0 && nesterov) continue;
            cases.push_back(
                {text("sums ", sums, name_of_copies(copies), " momentum ", momentum,
                      nesterov ? " nesterov" : "", " decay ", decay),
                 [=](Stage& stage) {
                   Group group(stage, sums, copies);
                   std::vector<kernel::SgdItem> items;
                   for (size_t i = 0; i < weights.size(); ++i)
                     items.push_back({group.sum(i), group.state(i),
                                      momentum > 0 ? group.state(i) : Out{}, group.copy(i)});
                   stage.launch(kernel::Sgd{items, 0.37, 0.1, momentum, decay, nesterov});
                 }});
          }
  return cases;
}

Cases adam_cases() {
  Cases cases;
  struct What {
    bool weights;
    std::optional<DType> copies;
  };
  for (DType sums : activation_types)
    for (auto [weights_too, copies] : {What{true, {}}, {true, bf16}, {true, f16}, {false, {}}})
      for (bool decoupled : {false, true})
        for (double decay : weights_too ? std::vector{0.0, 0.3} : std::vector{0.0})
          cases.push_back(
              {text("sums ", sums, weights_too ? "" : " moments alone", name_of_copies(copies),
                    decoupled ? " decoupled" : "", " decay ", decay),
               [=](Stage& stage) {
                 Group group(stage, sums, copies);
                 std::vector<kernel::AdamItem> items;
                 for (size_t i = 0; i < weights.size(); ++i)
                   items.push_back({group.sum(i), weights_too ? group.state(i) : Out(),
                                    group.state(i), group.variance(i), group.copy(i)});
                 const double beta1 = 0.9, beta2 = 0.95, step3_1 = 1 - 0.729,
                              step3_2 = 1 - 0.857375;
                 stage.launch(kernel::Adam{items, 0.37, 0.1, beta1, 1 - beta1, beta2, 1 - beta2,
                                           1e-3, decay, step3_1, step3_2, decoupled});
               }});
  return cases;
}

}  // namespace accrue::test
