// Leaves: where a graph ends and gradients stay. A parameter's is its GradBuffer.
#include "accrue/autograd/var.h"

#include "accrue/autograd/grad_buffer.h"
#include "accrue/autograd/tape.h"

namespace accrue {
namespace {

struct CallerLeaf final : Node {
  Tensor data;
  Deposit gradient;

  CallerLeaf(const Tensor& value, Deposit place) : data(value), gradient(place) {}
  Deposit place() override {
    const Deposit now = gradient;
    gradient.write = Write::add;
    return now;
  }
  Tensor input() const override { return data; }
};

}  // namespace

Var::Var(const Parameter& parameter) : value_(parameter.state()->working()) {
  const Tape* tape = Tape::current();
  if (tape && tape->has_buffers() && !parameter.state()->frozen)
    node_ = tape->buffer(*parameter.state());
}

Var::Var(const Tensor& data, Deposit gradient)
    : value_(data), node_(std::make_shared<CallerLeaf>(data, gradient)) {
  require(gradient.into.shape == data.shape(), "[var] expected a gradient's place of shape ",
          data.shape(), ", got ", gradient.into.shape);
  require(gradient.into.strides == contiguous_strides(data.shape()),
          "[var] expected a contiguous place for the gradient, got strides ",
          gradient.into.strides);
}

}  // namespace accrue
