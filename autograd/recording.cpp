// Backward outside of a cycle: gradient checks, input gradients.
#include "accrue/autograd/tape.h"

namespace accrue {

void backward(const Var& out, const Tensor& cotangent, Graph graph) {
  require_order(Tape::current() != nullptr,
                "[backward] expected a scope that records; try Recording or Cycle::begin");
  require_order(!Tape::current()->has_buffers(),
                "[backward] expected a Recording, got a cycle's micro-batch; use the scope's own "
                "backward(loss), which counts what it deposits");
  Tape::current()->backward(out, cotangent, graph);
}

}  // namespace accrue
