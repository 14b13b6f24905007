// An operation over the whole cycle: an ordinary one plus two gathers.
#include "accrue/autograd/cycle.h"

using namespace accrue;

struct Moments;  // Σ, Σ², Σdy, Σdy·x̂ over the micro-batches

struct CycleNorm {
  std::shared_ptr<Moments> cycle;
  Tensor forward(Saved&, const Tensor& x, const Tensor& gamma, const Tensor& beta) const;
  void backward(const Saved&, const Tensor& dy, Edge dx, Edge dgamma, Edge dbeta) const;
  void gather(const Tensor& x) const;
  void gather_backward(const Saved&, const Tensor& dy) const;
};
static_assert(NeedsCycle<CycleNorm> && Operation<CycleNorm, Var, Var, Var>);
static_assert(!Operation<CycleNorm, Var>);

struct Contrast {  // the whole cycle's negatives
  std::shared_ptr<Moments> cycle;
  Tensor forward(Saved&, const Tensor& pairs) const;
  void backward(const Saved&, const Tensor& dy, Edge pairs) const;
  void gather(const Tensor& pairs) const;
  void gather_backward(const Saved&, const Tensor&) const {}
};
static_assert(NeedsCycle<Contrast> && Operation<Contrast, Var>);
