// Leaves: where a graph ends and gradients stay.
#include "accrue/autograd/var.h"

#include "accrue/autograd/grad_buffer.h"
#include "accrue/autograd/tape.h"

namespace accrue {
namespace {

struct ParameterLeaf final : Node {
  std::shared_ptr<ParameterState> parameter;
  GradBuffer& buffer;

  ParameterLeaf(std::shared_ptr<ParameterState> state, GradBuffer& its)
      : parameter(std::move(state)), buffer(its) {}
  Deposit place() override { return buffer.place(); }
  void expect() override { buffer.expect(); }
  void used() override { buffer.used(); }
  Tensor input() const override { return parameter->working(); }
};

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
  if (!tape || !tape->has_buffers() || parameter.state()->frozen) return;
  node_ = std::make_shared<ParameterLeaf>(parameter.state(), tape->buffer(*parameter.state()));
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
