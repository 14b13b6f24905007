#include "accrue/autograd/grad_buffer.h"

namespace accrue {

GradBuffer::GradBuffer(std::shared_ptr<ParameterState> parameter,
                       std::shared_ptr<const Accumulator> accumulator)
    : parameter_(std::move(parameter)), accumulator_(std::move(accumulator)) {
  require_order(static_cast<bool>(parameter_->master),
                "[cycle] expected initialised parameters, got ",
                parameter_->name.empty() ? "one without a name" : parameter_->name,
                " without numbers; call initialize() first");
  const TagScope tag(Tag::gradients);
  const DType wide = parameter_->master.dtype();
  for (const auto& [name, dtype] : accumulator_->state(wide))
    states_.emplace_back(name, Tensor(parameter_->shape, dtype, parameter_->master.device()));
}

Tensor& GradBuffer::state(std::string_view name) {
  for (auto& [own, tensor] : states_)
    if (own == name) return tensor;
  throw BadArgument(
      text("[accumulator] expected a state that ", accumulator_->name(), " declares, got ", name));
}

const Tensor& GradBuffer::state(std::string_view name) const {
  return const_cast<GradBuffer*>(this)->state(name);
}

In GradBuffer::sum() const { return touched_ ? state("sum").in() : In(); }

Deposit GradBuffer::place() {
  require_order(life_ != Life::closed, "[grad buffer] expected a deposit into an open cycle, but ",
                parameter(), "'s was closed; step or discard it first");
  life_ = Life::open;
  if (accumulator_->fused()) {
    const Write write = touched_ ? Write::add : Write::set;
    touched_ = true;
    return {state("sum").out(), write};
  }
  if (micro_) return {micro_.out(), Write::add};
  const TagScope tag(Tag::gradients);
  micro_ = Tensor(parameter_->shape, parameter_->master.dtype(), parameter_->master.device());
  return {micro_.out(), Write::set};
}

void GradBuffer::used() {
  if (--pending_ == 0) fold();
}

void GradBuffer::fold() {
  if (!micro_) return;
  accumulator_->fold(*this, micro_.in(), touched_ ? Write::add : Write::set);
  touched_ = true;
  micro_ = Tensor();
}

void GradBuffer::settle() {
  fold();
  pending_ = 0;
}

void GradBuffer::close() {
  require_order(life_ != Life::closed, "[grad buffer] expected an open cycle, but ", parameter(),
                "'s was closed already; step or discard it first");
  life_ = Life::closed;
}

void GradBuffer::clear() {
  micro_ = Tensor();
  pending_ = 0;
  touched_ = false;
  life_ = Life::empty;
}

void GradBuffer::visit(Visitor& part) {
  int64_t touched = touched_;
  part("touched", touched);
  for (auto& [name, tensor] : states_)
    if (touched) part(name, tensor);
  touched_ = touched != 0;
  life_ = touched_ ? Life::open : Life::empty;
}

}  // namespace accrue
