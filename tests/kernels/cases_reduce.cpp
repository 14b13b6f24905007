// Cases of sums and normalizations.
#include <limits>

#include "kernels/cases.h"

namespace accrue::test {
namespace {

constexpr DType f32 = DType::f32, f64 = DType::f64, bf16 = DType::bf16, f16 = DType::f16;
constexpr DType i32 = DType::i32, i64 = DType::i64, u8 = DType::u8;

constexpr int64_t norm_sizes[][2] = {{1, 1},     {3, 7},    {17, 65},  {33, 31},
                                     {130, 127}, {5, 768},  {1, 1023}, {3, 512},
                                     {2, 1024},  {2, 3072}, {2, 4096}};
constexpr double epsilon = 1e-2;  // large, so that it shows, and so that σ⁻¹ ≤ 10
/// The largest σ⁻¹ of rows of C numbers ± [¼, 1).
double largest_inverse(int64_t C) { return C < 16 ? 10 : 3; }

}  // namespace

Cases sum_to_cases() {
  Cases cases;
  const std::pair<DType, DType> types[] = {{f32, f32},  {bf16, f32}, {bf16, bf16},
                                           {f32, bf16}, {f16, f32},  {f16, f16},
                                           {f32, f16},  {f16, bf16}, {bf16, f16}};
  const std::pair<Shape, Shape> shapes[] = {{{1}, {1}},
                                            {{3, 7}, {7}},
                                            {{3, 7}, {3, 1}},
                                            {{33, 65}, {1}},
                                            {{130, 127}, {127}},
                                            {{130, 127}, {130, 1}},
                                            {{257, 1023}, {1023}},
                                            {{257, 1023}, {1}},
                                            {{5, 33, 65}, {33, 65}},
                                            {{5, 33, 65}, {65}},
                                            {{5, 33, 65}, {1, 33, 1}},
                                            {{5, 33, 65}, {5, 1, 65}},
                                            {{33, 65}, {33, 65}},
                                            {{65, 1040}, {1040}},
                                            {{33, 1040}, {33, 1}}};
  for (const auto& [from, to] : types)
    for (Write write : both_writes)
      for (const auto& [x_shape, y_shape] : shapes)
        for (bool turned : {false, true}) {
          if (turned && x_shape.rank < 2) continue;
          cases.push_back({text(from, "→", to, " ", x_shape, "→", y_shape,
                                turned ? " turned " : " ", name_of(write)),
                           [=](Stage& stage) {
                             Shape raw = x_shape;
                             if (turned) std::swap(raw[0], raw[1]);
                             Tensor x = stage.random(raw, from);
                             if (turned) x = x.transpose(0, 1);
                             const double terms = 1.0 * x_shape.elements() / y_shape.elements() + 1;
                             Tensor y = stage.out(y_shape, to, write, {terms, terms});
                             stage.launch(kernel::SumTo{x.in(), y.out(), write});
                           }});
        }
  const std::pair<DType, DType> rare_types[] = {{f64, f64}, {f32, f64},  {f64, f32}, {bf16, f64},
                                                {i64, i64}, {i32, i64},  {u8, i64},  {i64, f64},
                                                {i32, f32}, {f64, bf16}, {u8, f32}};
  for (const auto& [from, to] : rare_types)
    for (Write write : both_writes)
      for (const Shape& y_shape : {Shape{1}, Shape{33, 65}, Shape{5, 1, 65}, Shape{5, 33, 65}})
        cases.push_back({text(from, "→", to, " ", y_shape, " ", name_of(write)), [=](Stage& stage) {
                           const Shape x_shape{5, 33, 65};
                           const Tensor x = stage.numbers(x_shape, from);
                           const double terms = 1.0 * x_shape.elements() / y_shape.elements() + 1;
                           // Whole numbers, below 2^24 together, add up exactly: one rounding.
                           const Bound bound = is_floating(from) ? Bound{terms, terms} : Bound{0};
                           Tensor y = stage.out(y_shape, to, write, bound);
                           stage.launch(kernel::SumTo{x.in(), y.out(), write});
                         }});
  for (Write write : both_writes)
    cases.push_back({text("no rows ", name_of(write)), [=](Stage& stage) {
                       const Tensor x = stage.random({0, 7}, f32);
                       Tensor y = stage.out({7}, f32, write, {});
                       stage.launch(kernel::SumTo{x.in(), y.out(), write});
                     }});
  return cases;
}

Cases dot_cases() {
  Cases cases;
  const auto add = [&](const std::string& name, DType dtype, double scale, double special,
                       std::optional<DType> other = {}) {
    cases.push_back(
        {name, [=](Stage& stage) {
           std::vector<Tensor> tensors, others;
           std::vector<In> ins, second;
           double elements = 0;
           for (const Shape& shape : many_shapes) {
             tensors.push_back(stage.random(shape, dtype, scale));
             if (other) others.push_back(stage.random(shape, *other, scale));
             elements += shape.elements();
           }
           if (special != 0)
             launch(Device::reference(), kernel::Fill{tensors[2].slice(3, 1).out(), special});
           for (const Tensor& tensor : tensors) ins.push_back(tensor.in());
           for (const Tensor& tensor : others) second.push_back(tensor.in());
           // Terms of two signs may cancel: Σ|terms| < elements, where all are below 1.
           Tensor y = stage.out({1}, f64, Write::set, {elements, other ? elements : 0});
           stage.launch(kernel::Dot{ins, other ? second : ins, y.out()});
         }});
  };
  for (DType dtype : activation_types) {
    for (DType other : activation_types) add(text(dtype, " with ", other), dtype, 1, 0, other);
    add(text(dtype, " six tensors"), dtype, 1, 0);
    if (dtype != f16) add(text(dtype, " squares beyond f32"), dtype, 1e30, 0);
    add(text(dtype, " one infinite"), dtype, 1, std::numeric_limits<double>::infinity());
    add(text(dtype, " one not a number"), dtype, 1, std::numeric_limits<double>::quiet_NaN());
  }
  return cases;
}

Cases norm_cases() {
  Cases cases;
  for (DType dtype : activation_types)
    for (bool centered : {true, false})
      for (const auto& [shifted, branched] : {std::pair(true, false), {false, false}, {true, true}})
        for (const auto& [R, C] : norm_sizes)
          cases.push_back(
              {text(dtype, " [", R, ", ", C, "]", centered ? " centered" : "",
                    shifted ? " beta" : "", branched ? " branch" : ""),
               [=, R = R, C = C, shifted = shifted, branched = branched](Stage& stage) {
                 const Tensor x = stage.random({R, C}, dtype);
                 const Tensor gamma = stage.random({C}, dtype), beta = stage.random({C}, dtype);
                 const Bound bound{C + 8.0, largest_inverse(C)};
                 Tensor y = stage.out({R, C}, dtype, Write::set, bound);
                 Tensor statistics = stage.out({R, 2}, f32, Write::set, bound);
                 kernel::Norm args{x.in(),  gamma.in(),       shifted ? beta.in() : In{},
                                   y.out(), statistics.out(), epsilon,
                                   centered};
                 Tensor branch, sum;
                 if (branched) {
                   branch = stage.random({R, C}, dtype);
                   sum = stage.out({R, C}, dtype, Write::set, {1, 2});
                   args.branch = branch.in(), args.sum = sum.out();
                 }
                 stage.launch(args);
               }});
  return cases;
}

Cases norm_backward_cases() {
  Cases cases;
  const auto add = [&](DType dtype, DType weights, bool centered, Write write, int wanted,
                       int64_t R, int64_t C) {
    cases.push_back(
        {text(dtype, " weights ", weights, " [", R, ", ", C, "]", centered ? " centered" : "",
              wanted & 1 ? " dx" : "", wanted & 2 ? " dgamma" : "", wanted & 4 ? " dbeta " : " ",
              name_of(write)),
         [=](Stage& stage) {
           const Tensor x = stage.random({R, C}, dtype), dy = stage.random({R, C}, dtype);
           const Tensor gamma = stage.random({C}, dtype);
           Tensor y({R, C}, dtype, Device::reference());
           Tensor statistics({R, 2}, f32, Device::reference());
           launch(
               Device::reference(),
               kernel::Norm{x.in(), gamma.in(), {}, y.out(), statistics.out(), epsilon, centered});
           kernel::NormBackward args{x.in(), gamma.in(), statistics.in(), dy.in(), {},
                                     {},     {},         centered};
           // dx: three terms of size σ⁻¹·|g|; dgamma: R terms dy·x̂, |x̂| ≤ σ⁻¹·|x − μ|.
           const double inverse = largest_inverse(C);
           const auto place = [&](const Shape& shape, DType type, Bound bound) {
             return Deposit(stage.out(shape, type, write, bound).out(), write);
           };
           if (wanted & 1) args.dx = place({R, C}, dtype, {C + 8.0, 3 * inverse});
           if (wanted & 2) args.dgamma = place({C}, weights, {R + 8.0, R * inverse});
           if (wanted & 4) args.dbeta = place({C}, weights, {R + 1.0, R + 1.0});
           stage.launch(args);
         }});
  };
  for (DType dtype : activation_types)
    for (bool centered : {true, false})
      for (Write write : both_writes) {
        for (const auto& [R, C] : norm_sizes) {
          add(dtype, f32, centered, write, 7, R, C);
          add(dtype, f32, centered, write, 3, R, C);
        }
        for (int wanted : {1, 2, 4, 5, 6}) add(dtype, f32, centered, write, wanted, 33, 65);
      }
  for (DType dtype : {bf16, f16})
    for (Write write : both_writes) add(dtype, dtype, true, write, 7, 33, 65);
  return cases;
}

}  // namespace accrue::test
