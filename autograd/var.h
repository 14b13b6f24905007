// Var: a tensor that remembers how it was made; record(): puts an operation on the tape.
#pragma once
#include <concepts>
#include <tuple>

#include "accrue/autograd/node.h"

namespace accrue {

class Parameter;

class Var {
 public:
  Var() = default;
  /// A constant: no gradient.
  Var(Tensor data) : value_(std::move(data)) {}
  /// The parameter's working copy; inside a scope its edge leads to the cycle's GradBuffer.
  /// Throws BadArgument if the parameter is neither in the scope's cycle nor frozen.
  Var(const Parameter& parameter);
  /// A leaf that deposits where the caller says: gradient checks, input gradients.
  Var(const Tensor& data, Deposit gradient);
  Var(Tensor value, std::shared_ptr<Node> node)
      : value_(std::move(value)), node_(std::move(node)) {}

  const Tensor& value() const { return value_; }
  const Shape& shape() const { return value_.shape(); }
  DType dtype() const { return value_.dtype(); }
  Device device() const { return value_.device(); }
  const std::shared_ptr<Node>& node() const { return node_; }
  /// The same numbers without their history.
  Var detach() const { return Var(value_); }

 private:
  Tensor value_;
  std::shared_ptr<Node> node_;
};

/// A struct with a forward rule, and a backward rule that deposits: one Tensor and one Edge per
/// input.
template <class Op, class... X>
concept Operation = requires(const Op& op, Saved& saved, const Saved& kept, const Tensor& t,
                             Edge edge) {
  { op.forward(saved, (void(sizeof(X)), t)...) } -> std::same_as<Tensor>;
  op.backward(kept, t, (void(sizeof(X)), edge)...);
};

/// An operation over the whole cycle: gather() sees the input of all micro-batches before the first
/// forward(), gather_backward() every dy before the first backward().
template <class Op>
concept NeedsCycle = requires(const Op& op, const Saved& saved, const Tensor& t) {
  op.gather(t);
  op.gather_backward(saved, t);
};

/// Runs `node` on the inputs, or only works out its shape, as the current tape says; appends it.
Var record(std::shared_ptr<OperationNode> node, std::span<const Var* const> inputs);

/// Records an operation. `name` must outlive the tape (a literal). Outside of a scope the operation
/// only runs and nothing is remembered: that is evaluation.
template <class Op, class... X>
requires Operation<Op, X...> Var record(std::string_view name, Op op, const X&... inputs) {
  // A Var is taken as it is; anything else (a Parameter, a Tensor) becomes one for the call.
  const std::tuple<std::conditional_t<std::same_as<X, Var>, const Var&, const Var>...> vars(
      inputs...);
  return std::apply(
      [&](const auto&... var) {
        const std::array<const Var*, sizeof...(X)> all{&var...};
        return record(std::make_shared<NodeOf<Op, sizeof...(X)>>(name, std::move(op)), all);
      },
      vars);
}

}  // namespace accrue
