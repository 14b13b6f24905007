// One GradBuffer without a model, driven as a cycle drives it: to look at an accumulator by itself.
#pragma once
#include "accrue/autograd/grad_buffer.h"
#include "accrue/core/kernels.h"

namespace accrue::examples {

/// The buffer of a parameter called "weight". `facts.micro_batches` and `facts.divisor` are what
/// the accumulator is told beforehand.
class OneBuffer {
 public:
  OneBuffer(std::shared_ptr<const Accumulator> accumulator, const Shape& shape,
            const CycleFacts& facts = {}, Placement placement = {Device::cpu()})
      : model_(shape), facts_(facts) {
    initialize(model_, placement, Seed{1});
    buffer_ = std::make_unique<GradBuffer>(model_.weight.state(), std::move(accumulator), &facts_);
  }
  OneBuffer(const OneBuffer&) = delete;  // the buffer knows where the facts lie

  /// One micro-batch whose gradient this is.
  void add(const Tensor& gradient) {
    buffer_->expect();
    const Deposit to = buffer_->place();
    launch(gradient.device(), kernel::Copy{gradient.in(), to.into, to.write});
    buffer_->used();
    buffer_->settle();
    ++facts_.micro.value;
  }
  /// After the last one. False: as GradBuffer::finish().
  bool finish() { return buffer_->finish(); }
  /// Row-major, in f64; after finish().
  std::vector<double> sum() const {
    Tensor numbers(buffer_->sum().shape, DType::f64, Device::reference());
    launch(Device::reference(), kernel::Copy{buffer_->sum(), numbers.out(), Write::set});
    return numbers.to_vector();
  }
  /// Ready for the next cycle.
  void clear() {
    buffer_->clear();
    facts_.micro = MicroStep{};
    ++facts_.index.value;
  }
  GradBuffer& buffer() { return *buffer_; }

 private:
  struct Model {
    Parameter weight;
    explicit Model(const Shape& shape) : weight(shape, zeros()) {}
    void visit(Visitor& part) { part("weight", weight); }
  };
  Model model_;
  CycleFacts facts_;
  std::unique_ptr<GradBuffer> buffer_;
};

}  // namespace accrue::examples
