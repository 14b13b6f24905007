// refused: no matching function for call to 'record
// An operation whose backward takes more edges than its forward takes inputs.
#include "accrue/autograd/var.h"

using namespace accrue;

struct Twice {
  Tensor forward(Saved&, const Tensor& x) const;
#ifdef MISTAKE
  void backward(const Saved&, const Tensor& dy, Edge dx, Edge dw) const;
#else
  void backward(const Saved&, const Tensor& dy, Edge dx) const;
#endif
};

Var twice(const Var& x) { return record("twice", Twice{}, x); }
