// What lies in a GradBuffer, by name: for accumulators and checkpoints.
#include <algorithm>

#include "accrue/autograd/grad_buffer.h"

namespace accrue {

size_t GradBuffer::index_of(std::string_view name) const {
  const auto found = std::ranges::find(declared_, name, &Accumulator::State::name);
  require(found != declared_.end(), "[accumulator] expected a state that ", accumulator_->name(),
          " declares, got ", name);
  return found - declared_.begin();
}

void GradBuffer::declare() {
  declared_ = accumulator_->state(parameter_->master.dtype(), parameter_->shape);
  states_.resize(declared_.size());
  for (const std::string& name : accumulator_->numbers()) numbers_.emplace_back(name, 0);
  for (auto& one : declared_) {
    const bool when_asked = one.name.ends_with('?');
    if (when_asked) one.name.pop_back();
    if (!when_asked) state(one.name);
    temporary_.push_back(when_asked);
  }
  sum_ = std::ranges::find(declared_, "sum", &Accumulator::State::name) - declared_.begin();
  if (accumulator_->fused()) index_of("sum");  // or there is no place for deposits
}

void GradBuffer::free_temporaries() {
  for (size_t i = 0; i < states_.size(); ++i)
    if (temporary_[i]) states_[i] = Tensor();
}

Tensor& GradBuffer::slot(std::string_view name) { return states_[index_of(name)]; }

Tensor& GradBuffer::state(std::string_view name) { return at(index_of(name)); }

Tensor& GradBuffer::at(size_t i) {
  if (states_[i]) return states_[i];
  const TagScope tag(Tag::gradients);
  const auto& [_, dtype, shape] = declared_[i];
  return states_[i] =
             Tensor(shape.rank > 0 ? shape : parameter_->shape, dtype, parameter_->master.device());
}

const Tensor& GradBuffer::state(std::string_view name) const {
  return const_cast<GradBuffer*>(this)->state(name);
}

int64_t& GradBuffer::number(std::string_view name) {
  const auto found = std::ranges::find(numbers_, name, &std::pair<std::string, int64_t>::first);
  require(found != numbers_.end(), "[accumulator] expected a number that ", accumulator_->name(),
          " declares, got ", name);
  return found->second;
}

int64_t GradBuffer::number(std::string_view name) const {
  return const_cast<GradBuffer*>(this)->number(name);
}

In GradBuffer::sum() const { return touched_ && sum_ < states_.size() ? state("sum").in() : In(); }

void GradBuffer::orphan() {
  clear();
  states_.assign(states_.size(), {});
  static constexpr CycleFacts none;
  facts_ = &none;
  life_ = Life::closed;
}

void GradBuffer::leave(bool touched) {
  micro_ = Tensor();
  pending_ = 0;
  touched_ = touched;
  life_ = touched ? Life::open : Life::empty;
}

void GradBuffer::weigh(double factor) {
  if (!micro_ || factor == 1) return;
  if (factor == 0)
    micro_ = Tensor();
  else
    launch(micro_.device(), kernel::Scale{micro_.in(), {}, factor, micro_.out(), Write::set});
}

void GradBuffer::visit(Visitor& part) {
  std::string name(accumulator_->name());
  part("accumulator", name);
  require(name == accumulator_->name(), "[cycle] expected the accumulator ", accumulator_->name(),
          " for ", parameter(), ", got a checkpoint of ", name,
          "; try the choice that it was saved with");
  int64_t touched = touched_, consumed = consumed_;
  part("touched", touched);
  part("consumed", consumed);
  touched_ = touched != 0;
  finished_ = consumed_ = consumed != 0;
  life_ = touched_ ? Life::open : Life::empty;
  for (auto& [name, value] : numbers_) part(name, value);
  for (const auto& one : declared_)
    if (touched_ && !consumed_ && accumulator_->live(*this, one.name))
      part(one.name, state(one.name));
}

}  // namespace accrue
