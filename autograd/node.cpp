#include "accrue/autograd/tape.h"

namespace accrue {

void Node::pass(const Tensor& dy) {
  const Deposit deposit = place();
  launch(dy.device(), kernel::Copy{dy.in(), deposit.into, deposit.write});
}

Deposit OperationNode::place() {
  if (!slot) {
    slot = Tensor(shape, dtype, device);
    return {slot.out(), Write::set};
  }
  if (slot.sharers() > 1) {  // it was passed on uncopied, and its other holder still reads it
    Tensor own = empty_like(slot);
    launch(device, kernel::Copy{slot.in(), own.out(), Write::set});
    slot = own;
  }
  return {slot.out(), Write::add};
}

void OperationNode::pass(const Tensor& dy) {
  if (!slot && dy.shape() == shape && dy.dtype() == dtype && dy.is_contiguous())
    slot = dy;
  else
    Node::pass(dy);
}

std::string OperationNode::label() {
  for (const Input& input : inputs())
    if (input.node && input.node->owner()) return text(name(), ' ', *input.node->owner());
  return std::string(name());
}

void OperationNode::pull(bool keep_saved) {
  const Range range(device, [&] { return label(); });
  const Tensor dy = std::move(slot);
  slot = Tensor();
  std::array<Edge, max_inputs> edges;
  const auto from = inputs();
  for (size_t i = 0; i < from.size(); ++i)
    if (from[i].node && from[i].node->needs_gradient) edges[i] = Edge(from[i].node.get());
  const Saved own = keep_saved ? saved : Saved(std::move(saved));
  if (needs_cycle() && !tape->has_buffers()) gather_backward(own, dy);
  backward(own, dy, {edges.data(), from.size()});
  if (keep_saved) return;
  for (Input& input : from) input.kept.reset();
}

}  // namespace accrue
