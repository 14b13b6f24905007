// Cases of causal attention.
#include "kernels/cases.h"

namespace accrue::test {
namespace {

constexpr int64_t sizes[][4] = {{1, 1, 1, 1},   {2, 3, 1, 7},     {1, 17, 3, 8},   {2, 33, 2, 16},
                                {1, 65, 2, 32}, {3, 127, 2, 64},  {1, 130, 1, 24}, {1, 257, 2, 20},
                                {2, 36, 2, 64}, {1, 132, 2, 128}, {1, 148, 1, 72}};

struct Setting {
  DType dtype;
  int64_t B, T, H, D;
  int layout;  // of q, k, v and of their gradients
  double scale = 3, p = 0;
  // The layouts: packed as one product leaves them, three of their own, heads before positions.
  static constexpr const char* layouts[] = {"[B,T,3,H,D]", "[3,B,T,H,D]", "[3,B,H,T,D]"};

  Shape shape() const {
    return layout == 0   ? Shape{B, T, 3, H, D}
           : layout == 1 ? Shape{3, B, T, H, D}
                         : Shape{3, B, H, T, D};
  }
  std::string name() const {
    return text(dtype, " B ", B, " T ", T, " H ", H, " D ", D, " ", layouts[layout], " p ", p,
                " scale ", scale);
  }
  /// An error of a score, which is about as large as `scale`, is one of the exponential's exponent.
  double terms() const { return (D + T) * (1 + scale) * (1 + scale); }
};

/// The part `i` of three, seen as [B, T, H, D].
Tensor part(const Tensor& all, const Setting& s, int i) {
  const int split = s.layout == 0 ? 2 : 0;
  const Tensor one = all.slice(split, i, 1).squeeze(split);
  return s.layout == 2 ? one.transpose(1, 2) : one;
}

/// Random q, k, v; q is `scale` times as large.
Tensor queries_keys_values(Stage& stage, const Setting& s) {
  Tensor qkv = stage.random(s.shape(), s.dtype);
  Tensor q = part(qkv, s, 0);
  launch(Device::reference(), kernel::Scale{q.in(), {}, s.scale, q.out(), Write::set});
  return qkv;
}

const RandomKey key{hash_of(7, "attention"), 2};

kernel::Attention forward(const Tensor& qkv, Out y, Out logsum, const Tensor& samples,
                          const Setting& s) {
  return {part(qkv, s, 0).in(),
          part(qkv, s, 1).in(),
          part(qkv, s, 2).in(),
          y,
          logsum,
          s.p,
          s.p > 0 ? samples.in() : In{},
          key};
}

std::vector<Setting> settings() {
  std::vector<Setting> all;
  for (DType dtype : activation_types) {
    for (const auto& [B, T, H, D] : sizes)
      for (double p : {0.0, 0.2}) all.push_back({dtype, B, T, H, D, 0, 3, p});
    for (int layout : {1, 2})
      for (double p : {0.0, 0.2}) all.push_back({dtype, 2, 33, 3, 16, layout, 3, p});
    all.push_back({dtype, 2, 65, 2, 64, 0, 100});  // exp(score) overflows unless shifted
  }
  return all;
}

}  // namespace

Cases attention_cases() {
  Cases cases;
  for (const Setting& s : settings())
    cases.push_back(
        {s.name(), [=](Stage& stage) {
           const Tensor qkv = queries_keys_values(stage, s);
           const Tensor samples = stage.samples(s.B);
           // The softmax may be rounded to bf16 or f16 before it multiplies v.
           Tensor y = stage.out({s.B, s.T, s.H, s.D}, s.dtype, Write::set,
                                {s.terms(), 0, is_short(s.dtype) ? 1.0 : 0.0});
           Tensor logsum = stage.out({s.B, s.H, s.T}, DType::f32, Write::set, {s.terms()});
           stage.launch(forward(qkv, y.out(), logsum.out(), samples, s));
         }});
  return cases;
}

Cases attention_backward_cases() {
  Cases cases;
  for (const Setting& s : settings()) {
    // One weight near 1 makes dP − Σ P·dP cancel, which the rounding of y does not survive.
    if (s.scale > 3 && is_short(s.dtype)) continue;
    for (Write write : both_writes)
      cases.push_back({text(s.name(), " ", name_of(write)), [=](Stage& stage) {
                         const Tensor qkv = queries_keys_values(stage, s);
                         const Tensor samples = stage.samples(s.B);
                         Tensor y({s.B, s.T, s.H, s.D}, s.dtype, Device::reference());
                         Tensor logsum({s.B, s.H, s.T}, DType::f32, Device::reference());
                         launch(Device::reference(),
                                forward(qkv, y.out(), logsum.out(), samples, s));

                         const Tensor dy = stage.random({s.B, s.T, s.H, s.D}, s.dtype);
                         // May be rounded to bf16 or f16: y, which came so, the softmax, and its
                         // gradient.
                         Tensor d = stage.out(s.shape(), s.dtype, write,
                                              {s.terms(), 0, is_short(s.dtype) ? 3.0 : 0.0});
                         stage.launch(kernel::AttentionBackward{
                             part(qkv, s, 0).in(), part(qkv, s, 1).in(), part(qkv, s, 2).in(),
                             y.in(), logsum.in(), dy.in(), part(d, s, 0).out(), part(d, s, 1).out(),
                             part(d, s, 2).out(), write, s.p, s.p > 0 ? samples.in() : In{}, key});
                       }});
  }
  return cases;
}

}  // namespace accrue::test
