// Cases of embedding, by table and by rotation.
#include "kernels/cases.h"

namespace accrue::test {
namespace {

constexpr int64_t sizes[][3] = {{1, 1, 1},    {7, 3, 17},      {65, 33, 127},  // V, C, R
                                {3, 65, 257}, {1023, 127, 65}, {257, 768, 100}};

}  // namespace

Cases embedding_cases() {
  Cases cases;
  for (DType dtype : activation_types)
    for (const auto& [V, C, R] : sizes)
      cases.push_back(
          {text(dtype, " V ", V, " C ", C, " R ", R), [=, V = V, C = C, R = R](Stage& stage) {
             const Tensor table = stage.random({V, C}, dtype);
             const Tensor ids = stage.ids({R}, V);
             Tensor y = stage.out({R, C}, dtype, Write::set, {});
             stage.launch(kernel::Embedding{table.in(), ids.in(), y.out()});
           }});
  return cases;
}

Cases embedding_backward_cases() {
  Cases cases;
  const std::pair<DType, DType> types[] = {{DType::f32, DType::f32},   {DType::bf16, DType::f32},
                                           {DType::bf16, DType::bf16}, {DType::f16, DType::f32},
                                           {DType::f16, DType::f16},   {DType::f16, DType::bf16}};
  for (const auto& [activations, weights] : types)
    for (Write write : both_writes)
      for (const auto& [V, C, R] : sizes)
        cases.push_back(
            {text(activations, "→", weights, " V ", V, " C ", C, " R ", R, " ", name_of(write)),
             [=, dtype = activations, weights = weights, V = V, C = C, R = R](Stage& stage) {
               const Tensor ids = stage.ids({R}, V), dy = stage.random({R, C}, dtype);
               // A place in f32 is rounded at each of about R/V repetitions, one in 16 bits once.
               const double repeats = size_of(weights) < 4 ? 4.0 : 4.0 + 1.0 * R / V;
               Tensor table = stage.out({V, C}, weights, write, {repeats, repeats, repeats});
               stage.launch(kernel::EmbeddingBackward{ids.in(), dy.in(), {table.out(), write}});
             }});
  return cases;
}

Cases rope_cases() {
  Cases cases;
  constexpr int64_t rope_sizes[][4] = {// B, T, H, D
                                       {1, 1, 1, 2},
                                       {2, 3, 1, 6},
                                       {1, 17, 3, 8},
                                       {2, 65, 2, 64},
                                       {3, 130, 2, 18}};
  for (DType dtype : activation_types)
    for (bool inverse : {false, true})
      for (Write write : both_writes)
        for (const auto& [B, T, H, D] : rope_sizes)
          cases.push_back({text(dtype, " B ", B, " T ", T, " H ", H, " D ", D,
                                inverse ? " inverse " : " ", name_of(write)),
                           [=, B = B, T = T, H = H, D = D](Stage& stage) {
                             const Shape shape{B, T, 3, H, D};
                             const Tensor x = stage.random(shape, dtype);
                             // The angle is at most T, and so is what rounding it does.
                             Tensor y = stage.out(shape, dtype, write, {4, static_cast<double>(T)});
                             stage.launch(kernel::Rope{x.in(), y.out(), write, 10000, inverse});
                           }});
  return cases;
}

}  // namespace accrue::test
