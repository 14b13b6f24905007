// Cases of the matrix product.
#include "kernels/cases.h"

namespace accrue::test {
namespace {

struct Matrices {
  DType ab, c;
  int64_t M, N, K;
  bool transpose_a = false, transpose_b = false, transpose_c = false;
};

/// [rows, columns], where wanted as the transpose of a row-major [columns, rows].
Tensor matrix(Stage& stage, int64_t rows, int64_t columns, DType dtype, bool transposed) {
  if (transposed) return stage.random({columns, rows}, dtype).transpose(0, 1);
  return stage.random({rows, columns}, dtype);
}

/// Σ|terms| ≤ K products, the bias and what c held. The factors are below 1.
Bound bound_of(int64_t K) { return {K + 2.0, K + 2.0}; }

Tensor product(Stage& stage, const Matrices& m, Write write) {
  if (m.transpose_c) return stage.out({m.N, m.M}, m.c, write, bound_of(m.K)).transpose(0, 1);
  return stage.out({m.M, m.N}, m.c, write, bound_of(m.K));
}

void add(Cases& cases, const Matrices& m, Write write, bool bias) {
  const std::string name =
      text(m.ab, "→", m.c, " ", m.M, "×", m.N, "×", m.K, " ", m.transpose_a ? "aᵀ" : "",
           m.transpose_b ? "bᵀ" : "", m.transpose_c ? "cᵀ" : "", " ", name_of(write),
           bias ? " bias" : "");
  cases.push_back(
      {name, [=](Stage& stage) {
         const Tensor a = matrix(stage, m.M, m.K, m.ab, m.transpose_a);
         const Tensor b = matrix(stage, m.K, m.N, m.ab, m.transpose_b);
         const Tensor row = bias ? stage.random({m.N}, m.ab) : Tensor();
         Tensor c = product(stage, m, write);
         stage.launch(kernel::Matmul{a.in(), b.in(), c.out(), write, bias ? row.in() : In{}});
       }});
}

/// A weight keeps layouts of itself: they must be used again, as itself and as its transpose, and
/// made again when it changes.
void add_weight(Cases& cases, DType dtype, bool transposed, int64_t M, int64_t N, int64_t K) {
  const std::string name = text(dtype, transposed ? " transposed" : "", " weight ", K, "×", N,
                                " with packs, ", M, " rows");
  cases.push_back(
      {name, [=](Stage& stage) {
         const Matrices m{dtype, dtype, M, N, K};
         Tensor weight = stage.random(transposed ? Shape{m.N, m.K} : Shape{m.K, m.N}, dtype);
         weight.keep_packs();
         const Tensor b = transposed ? weight.transpose(0, 1) : weight;
         const auto multiply = [&] {
           const Tensor x = stage.random({m.M, m.K}, dtype), dy = stage.random({m.M, m.N}, dtype);
           Tensor y = product(stage, m, Write::set);
           stage.launch(kernel::Matmul{x.in(), b.in(), y.out(), Write::set});
           Tensor dx = stage.out({m.M, m.K}, dtype, Write::set, bound_of(m.N));
           stage.launch(kernel::Matmul{dy.in(), b.transpose(0, 1).in(), dx.out(), Write::set});
         };
         multiply();
         multiply();
         const Tensor other = stage.random(weight.shape(), dtype);
         launch(Device::reference(), kernel::Copy{other.in(), weight.out(), Write::set});
         weight.keep_packs().invalidate();
         multiply();
       }});
}

/// A weight that is used in another shape as well keeps a layout of each.
void add_reshaped_weight(Cases& cases, DType dtype, int64_t M, const Shape& one,
                         const Shape& other) {
  const std::string name =
      text(dtype, " weight with packs in two shapes, ", one, " and ", other, ", ", M, " rows");
  cases.push_back({name, [=](Stage& stage) {
                     Tensor weight = stage.random(one, dtype);
                     weight.keep_packs();
                     for (const Shape& shape : {one, other, one})
                       for (const bool transposed : {false, true}) {
                         Tensor b = weight.reshape(shape);
                         if (transposed) b = b.transpose(0, 1);
                         const int64_t K = b.shape()[0], N = b.shape()[1];
                         const Tensor x = stage.random({M, K}, dtype);
                         Tensor y = stage.out({M, N}, dtype, Write::set, bound_of(K));
                         stage.launch(kernel::Matmul{x.in(), b.in(), y.out(), Write::set});
                       }
                   }});
}

/// Columns of a wider matrix: rows further apart than they are long.
void add_columns(Cases& cases, DType dtype, Write write, int64_t M, int64_t N) {
  cases.push_back({text(dtype, " columns of wider matrices ", M, "×", N, " ", name_of(write)),
                   [=](Stage& stage) {
                     const Tensor a = stage.random({M, 65 + 3}, dtype).slice(1, 2, 65);
                     const Tensor b = stage.random({65, N + 5}, dtype).slice(1, 1, N);
                     Tensor c = stage.out({M, N + 4}, dtype, write, bound_of(65));
                     stage.launch(kernel::Matmul{a.in(), b.in(), c.slice(1, 3, N).out(), write});
                   }});
}

}  // namespace

Cases matmul_cases() {
  constexpr DType f32 = DType::f32, bf16 = DType::bf16, f16 = DType::f16;
  const std::pair<DType, DType> types[] = {{f32, f32}, {bf16, bf16}, {bf16, f32}, {f32, bf16},
                                           {f16, f16}, {f16, f32},   {f32, f16},  {f16, bf16}};
  const std::array<int64_t, 3> sizes[] = {{1, 1, 1},      {3, 7, 17},   {1, 129, 65},
                                          {129, 1, 65},   {65, 127, 1}, {127, 33, 515},
                                          {257, 300, 131}};
  Cases cases;
  for (const auto& [ab, c] : types)
    for (Write write : both_writes) {
      for (const auto& [M, N, K] : sizes) {
        add(cases, {ab, c, M, N, K}, write, false);
        if (write == Write::set) add(cases, {ab, c, M, N, K}, write, true);
      }
      for (int bits = 1; bits < 8; ++bits)
        for (const auto& [M, N, K] : {sizes[1], sizes[5]})
          add(cases, {ab, c, M, N, K, (bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0}, write,
              false);
    }
  // A weight's gradient: whole strips of 32, and rows and columns beyond them.
  for (Write write : both_writes)
    for (const auto& [M, N, K] : {std::array<int64_t, 3>{64, 96, 32}, {97, 71, 96}, {33, 1025, 64}})
      add(cases, {bf16, f32, M, N, K, true}, write, false);
  // Rows of b that collide in the caches, as many as are copied or not, and a c whose bands are
  // narrower than what oneDNN packs for.
  for (Write write : both_writes)
    for (const auto& [M, N, K] : {std::array<int64_t, 3>{63, 256, 33},
                                  {64, 256, 33},
                                  {71, 512, 40},
                                  {600, 768, 35},
                                  {1300, 512, 3}})
      for (bool transposed : {false, true})
        add(cases, {f32, f32, M, N, K, transposed}, write, write == Write::set);
  for (DType dtype : activation_types) {
    // Few rows and many: a weight is packed for both, in ways of their own.
    for (int64_t M : {33, 130}) {
      for (bool transposed : {false, true})
        for (const auto& [N, K] : {std::pair<int64_t, int64_t>{65, 127}, {256, 40}, {40, 256}})
          add_weight(cases, dtype, transposed, M, N, K);
      add_reshaped_weight(cases, dtype, M, {40, 48}, {60, 32});
      add_reshaped_weight(cases, dtype, M, {10, 512}, {20, 256});
      add_reshaped_weight(cases, dtype, M, {17, 256}, {16, 272});  // rows of one length if padded
    }
    for (Write write : both_writes)
      for (const auto& [M, N] : {std::pair<int64_t, int64_t>{17, 33}, {70, 251}})
        add_columns(cases, dtype, write, M, N);
  }
  return cases;
}

Cases tile_matmul_cases() {
  Cases cases;
  // Several blocks of rows and columns; the last two have so many terms that a is packed some of
  // them at a time.
  for (Write write : both_writes)
    for (DType c : {DType::bf16, DType::f32})
      for (const auto& [M, N, K] : {std::array<int64_t, 3>{64, 96, 32},
                                    {97, 71, 96},
                                    {33, 1025, 64},
                                    {600, 200, 64},
                                    {290, 800, 130},
                                    {33, 40, 4200},
                                    {290, 70, 1700}})
        for (bool transposed : {false, true})
          add(cases, {DType::bf16, c, M, N, K, transposed}, write, false);
  // A b that is too large to be kept in another layout; the last with a in parts as well.
  add(cases, {DType::bf16, DType::bf16, 32, 40004, 420, false, true}, Write::set, false);
  add(cases, {DType::bf16, DType::bf16, 32, 260, 64600}, Write::set, false);
  return cases;
}

namespace {

constexpr kernel::UnaryFormula formulas[] = {kernel::UnaryFormula::gelu, kernel::UnaryFormula::silu,
                                             kernel::UnaryFormula::relu,
                                             kernel::UnaryFormula::tanh};
// Along a product's chain of roundings, then f's few; z may be rounded to its dtype before f.
Bound after_product(int64_t K) { return {K + 18.0, K + 2.0, 2}; }

/// add(dtype, formula, M, N, K, whether b is transposed).
template <class Add>
void for_each_product(const Add& add) {
  constexpr std::array<int64_t, 3> sizes[] = {{3, 7, 17},    {65, 127, 1},    {127, 33, 515},
                                              {64, 96, 128}, {300, 257, 131}, {33, 40, 4200},
                                              {70, 256, 33}};
  for (DType dtype : activation_types)
    for (const auto& [M, N, K] : sizes) {
      for (kernel::UnaryFormula formula : formulas)
        if (K < 1000 || formula == formulas[0]) add(dtype, formula, M, N, K, false);
      add(dtype, formulas[0], M, N, K, true);
    }
}

std::string name_of_product(DType dtype, kernel::UnaryFormula f, int64_t M, int64_t N, int64_t K,
                            bool transposed) {
  return text(dtype, " formula ", static_cast<int>(f), " ", M, "×", N, "×", K,
              transposed ? " bᵀ" : "");
}

/// multiply(stage, M, b) of a weight that keeps layouts of itself: twice, and after a change.
template <class Multiply>
void add_weights(Cases& cases, const Multiply& multiply) {
  for (DType dtype : activation_types)
    for (int64_t M : {33, 130})
      for (bool transposed : {false, true})
        cases.push_back(
            {text(dtype, " formula 0 ", transposed ? "transposed " : "", "weight with packs, ", M,
                  " rows"),
             [=](Stage& stage) {
               Tensor weight = stage.random({40, 256}, dtype);
               weight.keep_packs();
               const Tensor b = transposed ? weight.transpose(0, 1) : weight;
               multiply(stage, M, b);
               multiply(stage, M, b);
               const Tensor other = stage.random(weight.shape(), dtype);
               launch(Device::reference(), kernel::Copy{other.in(), weight.out(), Write::set});
               weight.keep_packs().invalidate();
               multiply(stage, M, b);
             }});
}

}  // namespace

Cases matmul_unary_cases() {
  Cases cases;
  add_weights(cases, [](Stage& stage, int64_t M, const Tensor& b) {
    const int64_t K = b.shape()[0], N = b.shape()[1];
    const Tensor a = stage.random({M, K}, b.dtype()), bias = stage.random({N}, b.dtype());
    Tensor z = stage.out({M, N}, b.dtype(), Write::set, bound_of(K));
    Tensor y = stage.out({M, N}, b.dtype(), Write::set, after_product(K));
    stage.launch(kernel::MatmulUnary{formulas[0], a.in(), b.in(), bias.in(), z.out(), y.out()});
  });
  for_each_product([&](DType dtype, kernel::UnaryFormula formula, int64_t M, int64_t N, int64_t K,
                       bool transposed) {
    cases.push_back({name_of_product(dtype, formula, M, N, K, transposed), [=](Stage& stage) {
                       const Tensor a = stage.random({M, K}, dtype);
                       const Tensor b = matrix(stage, K, N, dtype, transposed);
                       const bool biased = M != 64;  // and one size without
                       const Tensor bias = biased ? stage.random({N}, dtype) : Tensor();
                       Tensor z = stage.out({M, N}, dtype, Write::set, bound_of(K));
                       Tensor y = stage.out({M, N}, dtype, Write::set, after_product(K));
                       stage.launch(kernel::MatmulUnary{
                           formula, a.in(), b.in(), biased ? bias.in() : In{}, z.out(), y.out()});
                     }});
  });
  return cases;
}

Cases matmul_unary_backward_cases() {
  Cases cases;
  add_weights(cases, [](Stage& stage, int64_t M, const Tensor& b) {
    const int64_t K = b.shape()[0], N = b.shape()[1];
    const Tensor a = stage.random({M, K}, b.dtype()), z = stage.random({M, N}, b.dtype(), 6);
    Tensor dz = stage.out({M, N}, b.dtype(), Write::set, after_product(K));
    Tensor y = stage.out({M, N}, b.dtype(), Write::set, {16, 6});
    stage.launch(
        kernel::MatmulUnaryBackward{formulas[0], a.in(), b.in(), z.in(), dz.out(), y.out()});
  });
  for_each_product([&](DType dtype, kernel::UnaryFormula formula, int64_t M, int64_t N, int64_t K,
                       bool transposed) {
    cases.push_back({name_of_product(dtype, formula, M, N, K, transposed), [=](Stage& stage) {
                       const Tensor a = stage.random({M, K}, dtype);
                       const Tensor b = matrix(stage, K, N, dtype, transposed);
                       const Tensor z = stage.random({M, N}, dtype, 6);
                       Tensor dz = stage.out({M, N}, dtype, Write::set, after_product(K));
                       Tensor y = stage.out({M, N}, dtype, Write::set, {16, 6});
                       stage.launch(kernel::MatmulUnaryBackward{formula, a.in(), b.in(), z.in(),
                                                                dz.out(), y.out()});
                     }});
  });
  return cases;
}

}  // namespace accrue::test
