// The graph: what a Var points to, and where gradients are deposited.
// A backward rule never returns a gradient. It asks each edge for its place and writes there.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "accrue/core/kernels.h"
#include "accrue/core/tensor.h"

namespace accrue {

/// What backward needs of forward, and nothing else. It may write over a tensor of which this is
/// the only handle (sharers() == 1); a graph that is kept has a second one.
using Saved = std::vector<Tensor>;
/// The inputs of an operation: pointers, because handles cost a reference count each.
using Values = std::span<const Tensor* const>;

/// Anything a gradient can be deposited in: an operation's slot, a parameter's GradBuffer, a place
/// that the caller gave.
struct Node {
  virtual ~Node() = default;
  /// The place for a gradient of this node's value. The first deposit sets, later ones add.
  virtual Deposit place() = 0;
  /// Deposits dy itself; uncopied where nobody else will write to it.
  virtual void pass(const Tensor& dy);
  /// An operation that uses this node was recorded.
  virtual void expect() {}
  /// One of the operations that use this node will make no more deposits in this micro-batch.
  virtual void used() {}
  /// What operations read when their tape runs again.
  virtual Tensor input() const = 0;
  virtual const std::string* owner() const { return nullptr; }  // name of a leaf's parameter

  int32_t index = -1;          // position on its tape; −1: a leaf
  bool needs_gradient = true;  // false: made of constants alone, on a tape that runs later
};

/// Where a backward rule leaves the gradient of one input.
class Edge {
 public:
  Edge() = default;
  explicit Edge(Node* node) : node_(node) {}
  /// False: nobody needs this gradient.
  explicit operator bool() const { return node_ != nullptr; }
  /// A place to write, by the Write that it names. Ask once, then write.
  Deposit place() const { return node_->place(); }
  /// The gradient is dy: hands it on, uncopied where possible.
  void pass(const Tensor& dy) const { node_->pass(dy); }

 private:
  Node* node_ = nullptr;
};

struct Input {
  std::shared_ptr<Node> node;          // null: a constant
  std::unique_ptr<const Tensor> kept;  // where the tape runs again and the node lacks its value
};

/// An operation on a tape. Its value lives in the Vars that hold it; the node keeps only what
/// backward needs, and the value only while its tape runs again.
struct OperationNode : Node {
  virtual std::string_view name() const = 0;
  virtual std::span<Input> inputs() = 0;
  virtual Tensor forward(Saved& saved, Values inputs) const = 0;
  virtual void backward(const Saved& saved, const Tensor& dy,
                        std::span<const Edge> inputs) const = 0;
  /// Cycle operations need all micro-batches before any can go on.
  virtual bool needs_cycle() const { return false; }
  virtual void gather(const Tensor&) const {}
  virtual void gather_backward(const Saved&, const Tensor&) const {}

  Deposit place() override;
  void pass(const Tensor& dy) override;
  Tensor input() const override { return value; }

  std::string label();  // for profilers: its name, and the first parameter that it reads
  /// Runs the rule on the gradient in the slot, which dies here.
  void pull(bool keep_saved);

  const class Tape* tape = nullptr;
  int32_t last_use = -1;  // index of the last operation that reads the value; −1: none
  Shape shape;            // of the value
  DType dtype = DType::f32;
  Device device;
  Saved saved;
  Tensor value;
  Tensor slot;  // Σ of the deposits so far; empty: none
};

static constexpr int max_inputs = 8;

/// The node owns its operation: it can run later, and again.
template <class Op, size_t N>
struct NodeOf final : OperationNode {
  static_assert(N <= max_inputs);
  std::string_view title;
  Op op;
  std::array<Input, N> from;

  NodeOf(std::string_view name, Op&& operation) : title(name), op(std::move(operation)) {}
  std::string_view name() const override { return title; }
  std::span<Input> inputs() override { return from; }
  Tensor forward(Saved& saved, Values in) const override {
    return [&]<size_t... I>(std::index_sequence<I...>) { return op.forward(saved, *in[I]...); }
    (std::make_index_sequence<N>());
  }
  void backward(const Saved& saved, const Tensor& dy, std::span<const Edge> in) const override {
    [&]<size_t... I>(std::index_sequence<I...>) { op.backward(saved, dy, in[I]...); }
    (std::make_index_sequence<N>());
  }
  static constexpr bool cyclic = requires(const Op& o, const Saved& s, const Tensor& t) {
    o.gather(t);
    o.gather_backward(s, t);
  };
  bool needs_cycle() const override { return cyclic; }
  void gather(const Tensor& x) const override {
    if constexpr (cyclic) op.gather(x);
  }
  void gather_backward(const Saved& s, const Tensor& dy) const override {
    if constexpr (cyclic) op.gather_backward(s, dy);
  }
};

}  // namespace accrue
