#include <unordered_map>

#include "accrue/optim/consumption.h"

namespace accrue {
namespace {

struct InBackward final : Consumption {
  struct Place {
    Optimizer* optimizer;
    size_t parameter;
  };
  std::vector<Optimizer*> optimizers;
  std::unordered_map<const ParameterState*, Place> places;

  explicit InBackward(std::vector<Optimizer*> all) : optimizers(std::move(all)) {
    for (Optimizer* one : optimizers)
      for (size_t i = 0; i < one->parameters().size(); ++i)
        places.emplace(one->parameters().list[i].get(), Place{one, i});
  }
  std::string_view name() const override { return "in_backward"; }
  void check(const CycleOptions&) const override {
    for (const Optimizer* one : optimizers)
      require(one->clip() == 0,
              "[in_backward] expected no clip by the global norm, which is known "
              "only when backward is over, got ",
              one->clip(),
              "; clip each micro-batch by a filter "
              "and consume at close, or set clip = 0");
  }
  void consume(GradBuffer& buffer, Step step, double divisor) override {
    const auto found = places.find(buffer.parameter_state().get());
    require(found != places.end(),
            "[in_backward] expected each of the cycle's parameters in an "
            "optimizer, got ",
            buffer.parameter(), " in none");
    const auto [optimizer, parameter] = found->second;
    optimizer->update_one(parameter, buffer.sum(), step, divisor);
  }
};

}  // namespace

std::shared_ptr<Consumption> in_backward(std::vector<Optimizer*> optimizers) {
  require(!optimizers.empty(), "[in_backward] expected at least one optimizer, got none");
  return std::make_shared<InBackward>(std::move(optimizers));
}

}  // namespace accrue
