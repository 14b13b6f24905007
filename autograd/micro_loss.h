// A user's batch and closure without their types: what Cycle::run does with them.
#pragma once
#include <functional>
#include <vector>

#include "accrue/autograd/loss.h"
#include "accrue/autograd/module.h"

namespace accrue {

struct MicroLoss {
  std::function<Loss(int64_t first, int64_t count)> loss;

  /// One micro-batch: its tensors, which may be exchanged, and its loss.
  struct Micro {
    std::vector<Tensor*> tensors;
    std::function<Loss()> loss;
  };
  /// For graphs; null where the batch does not list its tensors: void visit(Visitor&).
  std::function<Micro(int64_t first, int64_t count)> micro = {};
  const void* kind = nullptr;  // one for each type of batch and closure

  Loss operator()(int64_t first, int64_t count) const { return loss(first, count); }
};

/// Refers to both.
template <class B, class F>
MicroLoss micro_loss(const B& all, F& loss) {
  static const char kind = 0;
  MicroLoss result{[&](int64_t first, int64_t count) { return loss(all.slice(first, count)); }};
  result.kind = &kind;
  // A pointer or a std::function may become another function of the same type.
  constexpr bool fixed = std::is_class_v<F> && !requires { typename F::result_type; };
  if constexpr (fixed && requires(B batch, Visitor & part) { batch.visit(part); })
    result.micro = [&](int64_t first, int64_t count) {
      const auto batch = std::make_shared<B>(all.slice(first, count));
      MicroLoss::Micro micro{{}, [batch, &loss] { return loss(*batch); }};
      Visitor list(
          {.tensor = [&](const std::string&, Tensor& one) { micro.tensors.push_back(&one); }});
      batch->visit(list);
      return micro;
    };
  return result;
}

}  // namespace accrue
