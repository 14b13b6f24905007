#include <optional>
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
  std::optional<CycleIndex> begun;  // the cycle of which something was consumed

  explicit InBackward(std::vector<Optimizer*> all) : optimizers(std::move(all)) {
    for (Optimizer* one : optimizers)
      for (size_t i = 0; i < one->parameters().size(); ++i) {
        const auto& parameter = one->parameters().list[i];
        require(places.emplace(parameter.get(), Place{one, i}).second,
                "[in_backward] expected each parameter in one optimizer, got ", parameter->name,
                " in two; leave it to one");
      }
  }
  std::string_view name() const override { return "in_backward"; }
  void check(const CycleOptions&, const Parameters& parameters) const override {
    for (const Optimizer* one : optimizers)
      require(one->clip() == 0,
              "[in_backward] expected no clip by the global norm, which is known only when "
              "backward is over, got ",
              one->clip(),
              "; clip each micro-batch by a filter and consume at close, or set clip = 0");
    for (const auto& one : parameters.list)
      require(one->frozen || places.contains(one.get()),
              "[in_backward] expected each of the cycle's parameters in an optimizer, got ",
              one->name, " in none; add it to one, or freeze it");
  }
  void consume(GradBuffer& buffer, Step step, double divisor) override {
    const auto found = places.find(buffer.parameter_state().get());
    require(found != places.end(), "[in_backward] expected parameters that are in an optimizer or ",
            "frozen, got ", buffer.parameter(),
            ", which was frozen when the cycle was made; make a new cycle");
    const CycleIndex index = buffer.facts().index;
    if (begun != index)  // what may throw comes first, and finds the model whole
      for (const Optimizer* one : optimizers)
        one->rate(step), one->check_counts(buffer.facts().shares);
    begun = index;
    const Place place = found->second;
    place.optimizer->update_one(place.parameter, buffer.sum(), step, index, divisor);
  }
};

}  // namespace

std::shared_ptr<Consumption> in_backward(std::vector<Optimizer*> optimizers) {
  require(!optimizers.empty(), "[in_backward] expected at least one optimizer, got none");
  return std::make_shared<InBackward>(std::move(optimizers));
}

}  // namespace accrue
