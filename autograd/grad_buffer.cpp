#include "accrue/autograd/grad_buffer.h"

namespace accrue {
namespace {

constexpr CycleFacts no_facts;

}  // namespace

GradBuffer::GradBuffer(std::shared_ptr<ParameterState> parameter,
                       std::shared_ptr<const Accumulator> accumulator, const CycleFacts* facts,
                       Folds folds)
    : parameter_(std::move(parameter)),
      accumulator_(std::move(accumulator)),
      facts_(facts ? facts : &no_facts),
      folds_(folds) {
  require_order(static_cast<bool>(parameter_->master),
                "[cycle] expected initialised parameters, got ",
                parameter_->name.empty() ? "one without a name" : parameter_->name,
                " without numbers; call initialize() first");
  declare();
}

Deposit GradBuffer::place() {
  require_order(life_ != Life::closed, "[grad buffer] expected a deposit into an open cycle, but ",
                parameter(),
                "'s was closed or has ended; step or discard it first, or make the Var anew "
                "from its parameter in this scope");
  require_order(!consumed_, "[grad buffer] expected no deposit after the last micro-batch, but ",
                parameter(), " was stepped in its backward; close the cycle");
  life_ = Life::open;
  if (accumulator_->fused() && folds_ == Folds::at_last_use) {
    const Write write = touched_ ? Write::add : Write::set;
    touched_ = true;
    return {at(sum_).out(), write};
  }
  if (micro_) return {micro_.out(), Write::add};
  const TagScope tag(Tag::gradients);
  micro_ = Tensor(parameter_->shape, parameter_->master.dtype(), parameter_->master.device());
  return {micro_.out(), Write::set};
}

void GradBuffer::used() {
  if (--pending_ > 0 || folds_ == Folds::when_judged) return;
  fold();
  if (!when_final_ || !touched_) return;
  finish();
  when_final_(*this);
  consumed_ = true;
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

bool GradBuffer::finish() {
  if (finished_ || !touched_) return true;
  return finished_ = accumulator_->finish(*this);
}

void GradBuffer::close() {
  require_order(life_ != Life::closed, "[grad buffer] expected an open cycle, but ", parameter(),
                "'s was closed already; step or discard it first");
  life_ = Life::closed;
}

void GradBuffer::clear() {
  free_temporaries();
  micro_ = Tensor();
  when_final_ = nullptr;
  pending_ = 0;
  touched_ = finished_ = consumed_ = false;
  life_ = Life::empty;
}

}  // namespace accrue
