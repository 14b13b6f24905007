#include "accrue/autograd/tape.h"

#include <algorithm>

#include "accrue/autograd/module.h"
#include "accrue/core/mode.h"

namespace accrue {
namespace {

thread_local Tape* tape_now = nullptr;

}  // namespace

Tape::Tape(Run run, std::vector<int64_t> samples, CycleIndex cycle, Buffers buffers)
    : run_(run), sample_indices_(std::move(samples)), cycle_(cycle), buffers_(std::move(buffers)) {}

Tape::~Tape() { release(); }

Tape* Tape::current() { return tape_now; }
TapeScope::TapeScope(Tape* tape) : before_(tape_now) { tape_now = tape; }
TapeScope::~TapeScope() { tape_now = before_; }

// Links are cut before nodes die: a Var that outlives its tape must not hold a chain of nodes whose
// destruction would recurse as deep as the tape is long.
void Tape::release() {
  for (auto node = nodes_.rbegin(); node != nodes_.rend(); ++node) {
    for (Input& input : (*node)->inputs()) input = {};
    (*node)->saved.clear();
    if ((*node)->slot) (*node)->slot = Tensor();
    if ((*node)->value) (*node)->value = Tensor();
    (*node)->tape = nullptr;
  }
  nodes_.clear();
  intervals_.clear();
}

Var record(std::shared_ptr<OperationNode> node, std::span<const Var* const> inputs) {
  if (Tape* tape = Tape::current()) return tape->append(std::move(node), inputs);
  std::array<const Tensor*, max_inputs> values;
  for (size_t i = 0; i < inputs.size(); ++i) values[i] = &inputs[i]->value();
  Saved unused;
  return Var(node->forward(unused, {values.data(), inputs.size()}));
}

Tensor Tape::forward(OperationNode& node, Values in) {
  Saved forgotten;
  if (run_ == Run::later) {
    const ModeScope shapes(Mode::shapes);
    return node.forward(forgotten, in);
  }
  const Range range(in.empty() ? Device() : in[0]->device(), [&] { return node.label(); });
  if (node.needs_cycle()) {
    if (buffers_)
      throw NeedsClosure(text("[", node.name(),
                              "] expected the whole cycle before it can go on; use "
                              "Cycle::run with a closure instead of begin and backward"));
    node.gather(*in[0]);  // recorded outside of a cycle: this batch is the whole
  }
  return node.forward(in_interval_ || run_ == Run::again ? forgotten : node.saved, in);
}

Var Tape::append(std::shared_ptr<OperationNode> node, std::span<const Var* const> inputs) {
  const bool again = run_ != Run::at_once || in_interval_;
  bool needed = false;
  std::array<const Tensor*, max_inputs> values;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Var& input = *inputs[i];
    values[i] = &input.value();
    node->inputs()[i].node = input.node();
    if (!input.node()) continue;
    needed = needed || input.node()->needs_gradient;
    if (input.node()->index >= 0)
      require_order(
          static_cast<OperationNode*>(input.node().get())->tape == this, "[", node->name(),
          "] expected inputs recorded in this scope, got one of another scope or one that "
          "has ended; try detach()");
  }
  Tensor value = forward(*node, {values.data(), inputs.size()});
  if (!needed && run_ != Run::later) return Var(std::move(value));  // a constant of constants

  const auto index = static_cast<int32_t>(nodes_.size());
  const int32_t interval_first = in_interval_ ? intervals_.back().first : 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    Input& input = node->inputs()[i];
    const int32_t from = input.node ? input.node->index : -1;
    if (from >= 0)
      static_cast<OperationNode*>(input.node.get())->last_use = index;
    else if (input.node)
      input.node->expect();
    // When this runs again, operations of the same interval and parameters will have their values.
    if (again && (!input.node || (from >= 0 && from < interval_first)))
      input.kept = std::make_unique<const Tensor>(*values[i]);
  }
  node->index = index;
  node->needs_gradient = needed;
  node->tape = this;
  node->shape = value.shape();
  node->dtype = value.dtype();
  node->device = value.device();
  nodes_.push_back(node);
  return Var(std::move(value), std::move(node));
}

void Tape::pull(int32_t first, int32_t last, Graph graph) {
  auto interval = std::find_if(intervals_.rbegin(), intervals_.rend(),
                               [&](const Interval& one) { return one.last <= last; });
  for (int32_t i = last - 1; i >= first; --i) {
    OperationNode& node = *nodes_[i];
    while (interval != intervals_.rend() && interval->last == i + 1) {
      run(interval->first, interval->last, Keep::saved);
      ++interval;
    }
    if (node.slot) node.pull(graph == Graph::keep);
    for (Input& input : node.inputs())
      if (input.node) input.node->used();
  }
}

void Tape::backward(const Var& out, const Tensor& cotangent, Graph graph) {
  Node* const last = out.node().get();  // null: of constants, or computed outside all scopes
  require_order(
      last && (last->index < 0 || static_cast<OperationNode*>(last)->tape == this),
      "[backward] expected a Var recorded in this scope, got another; compute it after begin()");
  require(cotangent.shape() == out.shape(), "[backward] expected a cotangent of shape ",
          out.shape(), ", got ", cotangent.shape());
  const Range range(cotangent.device(), "backward");
  out.node()->pass(cotangent);
  pull(0, size(), graph);
  if (graph == Graph::release) release();
}

}  // namespace accrue
