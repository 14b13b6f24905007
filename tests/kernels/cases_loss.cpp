// Cases of the losses.
#include <cmath>

#include "kernels/cases.h"

namespace accrue::test {
namespace {

constexpr DType f32 = DType::f32;
constexpr int64_t ignored = -100;
constexpr int64_t sizes[][2] = {{1, 1},    {3, 7},      {17, 65},  // R, V
                                {33, 127}, {130, 1023}, {5, 50257}};

struct Setting {
  DType dtype;
  int64_t R, V;
  double scale;  // of the logits; beyond 88 their exponentials overflow unless shifted
  bool ignores;

  std::string name() const {
    return text(dtype, " [", R, ", ", V, "] scale ", scale, ignores ? " some ignored" : "");
  }
  Tensor targets(Stage& stage) const {
    return ignores ? stage.ids({R}, V, ignored) : stage.ids({R}, V);
  }
  /// |logsum| and |logit| are at most this; so is, in roundings, the error of an exponential.
  double largest() const { return scale + std::log(V) + 1; }
};

std::vector<Setting> settings() {
  std::vector<Setting> all;
  for (DType dtype : activation_types)
    for (bool ignores : {false, true}) {
      for (const auto& [R, V] : sizes) all.push_back({dtype, R, V, 4, ignores});
      all.push_back({dtype, 17, 65, 200, ignores});
    }
  return all;
}

void add_backward(Cases& cases, const Setting& s, const std::string& how, Write write,
                  bool in_place) {
  cases.push_back(
      {text(s.name(), " ", how), [=](Stage& stage) {
         const Bound bound{s.largest() * s.largest(), 1};
         Tensor place = stage.out({s.R, s.V}, s.dtype, in_place ? Write::add : write, bound,
                                  in_place ? s.scale : 1);
         const Tensor logits = in_place ? place : stage.random({s.R, s.V}, s.dtype, s.scale);
         const Tensor targets = s.targets(stage), factor = stage.random({1}, f32);
         Tensor loss({1}, f32, Device::reference()), logsum({s.R}, f32, Device::reference());
         launch(Device::reference(), kernel::CrossEntropy{logits.in(), targets.in(), loss.out(),
                                                          logsum.out(), Write::set, ignored});
         stage.launch(kernel::CrossEntropyBackward{
             logits.in(), targets.in(), logsum.in(), factor.in(), {place.out(), write}, ignored});
       }});
}

}  // namespace

Cases cross_entropy_cases() {
  Cases cases;
  for (const Setting& s : settings())
    for (Write write : both_writes)
      cases.push_back(
          {text(s.name(), " ", name_of(write)), [=](Stage& stage) {
             const Tensor logits = stage.random({s.R, s.V}, s.dtype, s.scale);
             const Tensor targets = s.targets(stage);
             Tensor loss = stage.out({1}, f32, write, {1.0 * s.R + s.V, 2 * s.R * s.largest()});
             Tensor logsum = stage.out({s.R}, f32, Write::set, {1.0 * s.V, s.largest()});
             stage.launch(kernel::CrossEntropy{logits.in(), targets.in(), loss.out(), logsum.out(),
                                               write, ignored});
           }});
  return cases;
}

Cases cross_entropy_backward_cases() {
  Cases cases;
  for (const Setting& s : settings()) {
    add_backward(cases, s, "set", Write::set, false);
    add_backward(cases, s, "add", Write::add, false);
    add_backward(cases, s, "set in place of the logits", Write::set, true);
  }
  return cases;
}

Cases count_targets_cases() {
  Cases cases;
  for (bool ignores : {false, true})
    for (const Shape& shape : many_shapes)
      cases.push_back({text(shape, ignores ? " some ignored" : ""), [=](Stage& stage) {
                         const Tensor targets =
                             ignores ? stage.ids(shape, 65, ignored) : stage.ids(shape, 65);
                         Tensor count = stage.out({1}, DType::i64, Write::set, {});
                         stage.launch(kernel::CountTargets{targets.in(), count.out(), ignored});
                       }});
  return cases;
}

Cases squared_error_cases() {
  Cases cases;
  for (DType dtype : activation_types)
    for (const Shape& shape : many_shapes)
      cases.push_back({text(dtype, shape), [=](Stage& stage) {
                         const Tensor x = stage.random(shape, dtype);
                         const Tensor target = stage.random(shape, dtype);
                         const double terms = static_cast<double>(shape.elements());
                         Tensor loss = stage.out({1}, f32, Write::set, {terms + 2, 4 * terms});
                         stage.launch(kernel::SquaredError{x.in(), target.in(), loss.out()});
                       }});
  return cases;
}

Cases squared_error_backward_cases() {
  Cases cases;
  for (DType dtype : activation_types)
    for (Write write : both_writes)
      for (const Shape& shape : many_shapes)
        cases.push_back({text(dtype, shape, " ", name_of(write)), [=](Stage& stage) {
                           const Tensor x = stage.random(shape, dtype);
                           const Tensor target = stage.random(shape, dtype);
                           const Tensor factor = stage.random({1}, f32);
                           Tensor dx = stage.out(shape, dtype, write, {4, 5});
                           stage.launch(kernel::SquaredErrorBackward{
                               x.in(), target.in(), factor.in(), {dx.out(), write}});
                         }});
  return cases;
}

}  // namespace accrue::test
