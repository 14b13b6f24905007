// Kahan summation with all its arithmetic in bf16: for teaching; it needs as many bytes as f32.
#pragma once
#include "accrue/autograd/grad_buffer.h"
#include "accrue/core/map.h"

namespace accrue::examples {

/// As accumulators::kahan(), but sum and carry are bf16 and each operation is rounded to bf16. What
/// optimizers read is the sum alone, or the sum minus what it still owes, which has twice the
/// digits. 4 bytes a weight between micro-batches.
struct KahanBf16 final : Accumulator {
  enum class Reading : uint8_t { high, high_minus_carry };
  Reading reading;
  explicit KahanBf16(Reading how) : reading(how) {}

  struct Fold {
    // map() computes in f32 and rounds what it stores; what lies between is rounded here.
    template <class T>
    static T rounded(T x) {
      return static_cast<T>(BFloat16(static_cast<float>(x)));
    }
    template <class T>
    void operator()(T& high, T& carry, T gradient) const {
      const T y = rounded(gradient - carry), next = rounded(high + y);
      carry = rounded(next - high) - y;
      high = next;
    }
  };
  struct Subtract {
    template <class T>
    void operator()(T& sum, T carry) const {
      sum -= carry;
    }
  };

  std::string_view name() const override {
    return reading == Reading::high ? "kahan_bf16" : "kahan_bf16_carry";
  }
  bool fused() const override { return false; }
  bool running_sum() const override { return false; }
  // Each y is rounded; the sum as well, where it is all that is read.
  double error_bound(int64_t k) const override {
    return (reading == Reading::high ? 2 : 1) * 0x1p-8 + 4 * static_cast<double>(k) * 0x1p-16;
  }
  std::vector<State> state(DType wide, const Shape&) const override {
    return {{"sum?", wide}, {"high", DType::bf16}, {"carry", DType::bf16}};
  }
  bool live(const GradBuffer&, std::string_view state) const override { return state != "sum"; }
  void fold(GradBuffer& buffer, In micro, Write write) const override {
    Tensor &high = buffer.state("high"), &carry = buffer.state("carry");
    if (write == Write::add) return map(Fold{}, high.device(), {high.out(), carry.out()}, {micro});
    launch(high.device(), kernel::Copy{micro, high.out(), Write::set});
    launch(high.device(), kernel::Fill{carry.out(), 0});
  }
  bool finish(GradBuffer& buffer) const override {
    Tensor& sum = buffer.state("sum");
    launch(sum.device(), kernel::Copy{buffer.state("high").in(), sum.out(), Write::set});
    if (reading == Reading::high_minus_carry)
      map(Subtract{}, sum.device(), {sum.out()}, {buffer.state("carry").in()});
    return true;
  }
};

}  // namespace accrue::examples
