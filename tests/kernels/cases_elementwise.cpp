// Cases of kernels in which every element stands alone.
#include "kernels/cases.h"

namespace accrue::test {
namespace {

constexpr DType f32 = DType::f32, f64 = DType::f64, bf16 = DType::bf16, f16 = DType::f16;
constexpr DType i32 = DType::i32, i64 = DType::i64, u8 = DType::u8;
const Bound few{4};  // a handful of roundings

const kernel::UnaryFormula unary_formulas[] = {
    kernel::UnaryFormula::gelu, kernel::UnaryFormula::silu, kernel::UnaryFormula::relu,
    kernel::UnaryFormula::tanh};
const char* name_of_formula(kernel::UnaryFormula formula) {
  constexpr const char* names[] = {"gelu", "silu", "relu", "tanh"};
  return names[static_cast<int>(formula)];
}
// 1 + tanh(…) and 1 − tanh² cancel, so the error is relative to the largest |x|, not to the result.
constexpr double unary_range = 6;
const Bound unary_bound{16, unary_range};

}  // namespace

Cases copy_cases() {
  Cases cases;
  const std::pair<DType, DType> types[] = {
      {f32, f32}, {f32, bf16}, {bf16, f32}, {bf16, bf16}, {f32, f64},  {f64, f32}, {bf16, f64},
      {f32, f16}, {f16, f32},  {f16, f16},  {f16, bf16},  {bf16, f16}, {f16, f64}};
  const auto add = [&](DType from, DType to, Write write, const std::string& how,
                       const Shape& from_shape, const Shape& to_shape,
                       const std::function<Tensor(Tensor)>& from_view,
                       const std::function<Tensor(Tensor)>& to_view) {
    cases.push_back(
        {text(from, "→", to, " ", from_shape, " ", how, " ", name_of(write)), [=](Stage& stage) {
           const double scale = is_floating(to) ? 1 : 100;  // a fraction alone would become 0
           const Tensor x = from_view(stage.numbers(from_shape, from, scale));
           Tensor y = to_view(stage.out(to_shape, to, write, few));
           stage.launch(kernel::Copy{x.in(), y.out(), write});
         }});
  };
  const auto whole = [](Tensor x) { return x; };
  const auto turned = [](Tensor x) { return x.transpose(0, 1); };
  const auto permuted = [](Tensor x) { return x.transpose(1, 2); };
  const auto columns = [](Tensor x) { return x.slice(1, 2, 33); };
  for (const auto& [from, to] : types)
    for (Write write : both_writes) {
      for (const Shape& shape : many_shapes) add(from, to, write, "", shape, shape, whole, whole);
      add(from, to, write, "turned", {65, 127}, {127, 65}, turned, whole);
      add(from, to, write, "to turned", {65, 127}, {127, 65}, whole, turned);
      add(from, to, write, "permuted", {3, 17, 5, 33}, {3, 5, 17, 33}, permuted, whole);
      add(from, to, write, "columns", {65, 37}, {65, 33}, columns, whole);
      add(from, to, write, "to columns", {65, 33}, {65, 37}, whole, columns);
      add(from, to, write, "row to all", {127}, {33, 127}, whole, whole);
      add(from, to, write, "column to all", {33, 1}, {33, 127}, whole, whole);
      add(from, to, write, "one to all", {1}, {33, 17}, whole, whole);
    }
  // Those that no layer's numbers pass through, counts (i64→f64) and ids among them.
  const std::pair<DType, DType> rare_types[] = {{f64, f64}, {f64, bf16}, {f64, f16}, {u8, u8},
                                                {i32, i32}, {i64, i64},  {u8, i32},  {i32, i64},
                                                {i64, i32}, {u8, f32},   {i32, f32}, {i64, f32},
                                                {i32, f64}, {i64, f64},  {f32, i32}, {f64, i64}};
  for (const auto& [from, to] : rare_types)
    for (Write write : both_writes) {
      for (const Shape& shape : {Shape{1}, Shape{33, 65}, Shape{5, 7, 31}})
        add(from, to, write, "", shape, shape, whole, whole);
      add(from, to, write, "turned", {65, 127}, {127, 65}, turned, whole);
      add(from, to, write, "column to all", {33, 1}, {33, 127}, whole, whole);
    }
  cases.push_back({"i32→i64, i64→f32", [](Stage& stage) {
                     const Tensor x = stage.ids({1023}, 70000);
                     Tensor y = stage.out({1023}, i64, Write::set, {});
                     Tensor z = stage.out({1023}, f32, Write::set, {});
                     stage.launch(kernel::Copy{x.in(), y.out(), Write::set});
                     stage.launch(kernel::Copy{y.in(), z.out(), Write::set});
                   }});
  return cases;
}

Cases fill_cases() {
  Cases cases;
  for (DType dtype : {f32, f64, bf16, f16, i32, i64, DType::u8})
    for (const Shape& shape : many_shapes)
      for (double value : {0.0, 3.0})
        cases.push_back({text(dtype, shape, " ", value), [=](Stage& stage) {
                           Tensor y = stage.out(shape, dtype, Write::set, {});
                           stage.launch(kernel::Fill{y.out(), value});
                         }});
  for (DType dtype : activation_types)
    cases.push_back({text(dtype, " columns"), [=](Stage& stage) {
                       Tensor y = stage.out({33, 127}, dtype, Write::set, {});
                       stage.launch(kernel::Fill{y.slice(1, 5, 65).out(), 0.3});
                     }});
  return cases;
}

Cases binary_cases() {
  Cases cases;
  const auto add = [&](DType dtype, kernel::BinaryFormula formula, const Shape& a_shape,
                       const Shape& b_shape, const Shape& shape, bool turned, Write write) {
    const bool adds = formula == kernel::BinaryFormula::add;
    cases.push_back({text(dtype, adds ? " add " : " multiply ", a_shape, b_shape,
                          turned ? " turned " : " ", name_of(write)),
                     [=](Stage& stage) {
                       const Tensor raw = stage.random(a_shape, dtype),
                                    b = stage.random(b_shape, dtype);
                       const Tensor a = turned ? raw.transpose(0, 1) : raw;
                       Tensor y = stage.out(shape, dtype, write, few);
                       stage.launch(kernel::Binary{formula, a.in(), b.in(), y.out(), write});
                     }});
  };
  for (DType dtype : activation_types)
    for (auto formula : {kernel::BinaryFormula::add, kernel::BinaryFormula::multiply})
      for (Write write : both_writes) {
        for (const Shape& s : many_shapes) add(dtype, formula, s, s, s, false, write);
        add(dtype, formula, {33, 127}, {127}, {33, 127}, false, write);
        add(dtype, formula, {33, 1}, {33, 127}, {33, 127}, false, write);
        add(dtype, formula, {33, 1}, {1, 127}, {33, 127}, false, write);
        add(dtype, formula, {1}, {33, 127}, {33, 127}, false, write);
        add(dtype, formula, {5, 65, 127}, {65, 127}, {5, 65, 127}, false, write);
        add(dtype, formula, {5, 65, 33}, {5, 1, 33}, {5, 65, 33}, false, write);
        add(dtype, formula, {127, 33}, {33, 127}, {33, 127}, true, write);
      }
  return cases;
}

Cases unary_cases() {
  Cases cases;
  for (DType dtype : activation_types)
    for (auto formula : unary_formulas)
      for (double range : {unary_range, 100.0})  // beyond: tanh is ±1, nothing overflows
        for (const Shape& shape : many_shapes)
          cases.push_back({text(dtype, " ", name_of_formula(formula), " ", shape, " range ", range),
                           [=](Stage& stage) {
                             const Tensor x = stage.random(shape, dtype, range);
                             Tensor y = stage.out(shape, dtype, Write::set, unary_bound);
                             stage.launch(kernel::Unary{formula, x.in(), y.out()});
                           }});
  return cases;
}

Cases unary_backward_cases() {
  Cases cases;
  for (DType dtype : activation_types)
    for (auto formula : unary_formulas)
      for (double range : {unary_range, 100.0})
        for (Write write : both_writes)
          for (const Shape& shape : many_shapes)
            cases.push_back(
                {text(dtype, " ", name_of_formula(formula), " ", shape, " range ", range, " ",
                      name_of(write)),
                 [=](Stage& stage) {
                   const Tensor x = stage.random(shape, dtype, range);
                   const Tensor dy = stage.random(shape, dtype);
                   Tensor dx = stage.out(shape, dtype, write, unary_bound);
                   stage.launch(kernel::UnaryBackward{formula, x.in(), dy.in(), {dx.out(), write}});
                 }});
  return cases;
}

Cases scale_cases() {
  Cases cases;
  for (DType dtype : activation_types)
    for (bool factor : {false, true})
      for (Write write : both_writes)
        for (const Shape& shape : many_shapes)
          cases.push_back(
              {text(dtype, shape, factor ? " factor " : " ", name_of(write)), [=](Stage& stage) {
                 const Tensor x = stage.random(shape, dtype);
                 const Tensor f = stage.random({1}, f32);
                 Tensor y = stage.out(shape, dtype, write, few);
                 stage.launch(kernel::Scale{x.in(), factor ? f.in() : In{}, 0.7, y.out(), write});
               }});
  return cases;
}

Cases dropout_cases() {
  Cases cases;
  const Shape shapes[] = {{1, 1},       {3, 7},  {2, 5, 129}, {17, 1023},
                          {5, 65, 127}, {3, 64}, {2, 5, 1040}};
  for (DType dtype : activation_types)
    for (double p : {0.0, 0.1, 0.5})
      for (Write write : both_writes)
        for (const Shape& shape : shapes)
          cases.push_back(
              {text(dtype, shape, " p ", p, " ", name_of(write)), [=](Stage& stage) {
                 const Tensor x = stage.random(shape, dtype);
                 const Tensor samples = stage.samples(shape[0]);
                 Tensor y = stage.out(shape, dtype, write, few);
                 const RandomKey key{hash_of(5, "site"), 3};
                 stage.launch(kernel::Dropout{x.in(), samples.in(), y.out(), write, p, key});
               }});
  return cases;
}

}  // namespace accrue::test
