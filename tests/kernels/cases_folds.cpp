// Cases of what accumulators and averages do.
#include "kernels/cases.h"

namespace accrue::test {
namespace {

const Bound few{4, 1};

template <class Formula, size_t... O, size_t... I>
Cases map_cases(const Formula& formula, std::index_sequence<O...>, std::index_sequence<I...>) {
  Cases cases;
  // Sums are f32, averages too; what is added may be short.
  for (DType sums : {DType::f32, DType::bf16})
    for (DType terms : activation_types)
      for (const Shape& shape : many_shapes)
        cases.push_back(
            {text("sums ", sums, " terms ", terms, shape), [=](Stage& stage) {
               Tensor to[] = {((void)O, stage.out(shape, sums, Write::add, few))...};
               [[maybe_unused]] const std::array<Tensor, sizeof...(I)> a{
                   ((void)I, stage.random(shape, terms))...};
               stage.launch(kernel::Map<Formula>{formula, {to[O].out()...}, {a[I].in()...}});
             }});
  return cases;
}

template <class Formula>
Cases map_cases(const Formula& formula) {
  return map_cases(formula, std::make_index_sequence<Formula::outs>(),
                   std::make_index_sequence<Formula::ins>());
}

}  // namespace

Cases add_cases() { return map_cases(fold::Add{}); }
Cases add_two_cases() { return map_cases(fold::AddTwo{}); }
Cases add_three_cases() { return map_cases(fold::AddThree{}); }
Cases kahan_cases() { return map_cases(fold::Kahan{}); }
Cases average_cases() { return map_cases(fold::Average{0.3}); }
Cases swap_cases() { return map_cases(fold::Swap{}); }

Cases stochastic_add_cases() {
  Cases cases;
  for (DType dtype : activation_types)
    for (Write write : both_writes)
      for (const Shape& shape : many_shapes)
        cases.push_back({text(dtype, shape, " ", name_of(write)), [=](Stage& stage) {
                           const Tensor x = stage.random(shape, dtype);
                           Tensor sum = stage.out(shape, DType::bf16, write, few);
                           const RandomKey key{hash_of(5, "sum"), 3};
                           stage.launch(kernel::StochasticAdd{x.in(), sum.out(), write, key});
                         }});
  return cases;
}

Cases fixed_point_add_cases() {
  Cases cases;
  for (DType dtype : activation_types)
    for (Write write : both_writes)
      for (const Shape& shape : many_shapes)
        for (double factor : {0x1p12, 1e-3})
          cases.push_back(
              {text(dtype, shape, " ", name_of(write), " factor ", factor), [=](Stage& stage) {
                 const Tensor x = stage.random(shape, dtype, 8);
                 Tensor total = stage.out(shape, DType::i64, write, {});
                 Tensor largest = stage.out({1}, DType::f64, write, {});
                 stage.launch(
                     kernel::FixedPointAdd{x.in(), total.out(), largest.out(), write, factor});
               }});
  return cases;
}

}  // namespace accrue::test
