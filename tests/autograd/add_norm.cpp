// The norm of a sum in one pass: the bits of the two operations apart.
#include "autograd/operation.h"

namespace accrue::test {
namespace {

using Ins = std::span<const Var>;

std::vector<OperationInput> inputs(bool centered) {
  std::vector<OperationInput> all{{{3, 5, 67}}, {{3, 5, 67}}, {{67}, true}};
  if (centered) all.push_back({{67}, true});
  return all;
}

SumAndNorm apart(Ins in, bool centered) {
  const Var sum = in[0] + in[1];
  return {sum, centered ? layer_norm(sum, in[2], in[3]) : rms_norm(sum, in[2])};
}
SumAndNorm at_once(Ins in, bool centered) {
  return centered ? add_layer_norm(in[0], in[1], in[2], in[3]) : add_rms_norm(in[0], in[1], in[2]);
}

}  // namespace

TEST_CASE("add_layer_norm and add_rms_norm have the bits of a sum and its norm apart") {
  for (Where where :
       {exact(), Where{Device::reference(), DType::bf16}, Where{Device::cpu(), DType::f32},
        Where{Device::cpu(), DType::bf16}, Where{Device::cpu(), DType::f16}})
    for (bool centered : {true, false}) {
      CAPTURE(name_of(where.dtype));
      CAPTURE(centered);
      const auto result = [&](const auto& both, bool again) {
        const OperationCase one{"", inputs(centered), [&](Ins in, Where) {
                                  const auto product = [&] {
                                    const auto [sum, norm] = both(in, centered);
                                    return sum * norm;
                                  };
                                  return again ? recompute(product) : product();
                                }};
        return run_case(one, inputs_of(one, where.dtype, 7), where,
                        std::vector<bool>(one.inputs.size(), true));
      };
      const OperationResult expected = result(apart, false);
      for (bool again : {false, true}) {
        const OperationResult got = result(at_once, again);
        CHECK(got.value == expected.value);
        CHECK(got.gradients == expected.gradients);
      }
    }
}

TEST_CASE(
    "recomputed from constants, the sum is written again where it lay: the gains' gradients stay") {
  const Where where{Device::cpu(), DType::f32};
  const OperationCase one{"", inputs(true), [](Ins in, Where) {
                            return recompute([&] {
                              const auto [sum, norm] = at_once(in, true);
                              return sum * norm;
                            });
                          }};
  const Many numbers = inputs_of(one, where.dtype, 7);
  const OperationResult all = run_case(one, numbers, where, {true, true, true, true});
  const OperationResult gains = run_case(one, numbers, where, {false, false, true, true});
  for (int i : {2, 3}) CHECK(gains.gradients[i] == all.gradients[i]);
}

TEST_CASE("a branch of another shape or dtype is refused by name") {
  const auto of = [](Shape shape, DType dtype = DType::f32) {
    return Var(Tensor(shape, dtype, Device::cpu()));
  };
  const Var x = of({2, 3}), gain = of({3});
  for (const Var& branch :
       {of({3}), of({2, 1}), of({2, 3}, DType::bf16), Var(of({3, 2}).value().transpose(0, 1))}) {
    CHECK_THROWS_WITH_AS(add_layer_norm(x, branch, gain, gain),
                         doctest::Contains("[add_layer_norm] expected a contiguous branch"),
                         BadArgument);
    CHECK_THROWS_WITH_AS(add_rms_norm(x, branch, gain),
                         doctest::Contains("[add_rms_norm] expected a contiguous branch"),
                         BadArgument);
  }
}

}  // namespace accrue::test
