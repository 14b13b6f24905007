#include "accrue/optim/ema.h"

#include <algorithm>

#include "accrue/core/map.h"

namespace accrue {

Ema::Ema(Parameters parameters, EmaConfig config)
    : parameters_(std::move(parameters)), config_(config) {
  require(config.decay >= 0 && config.decay < 1, "[ema] expected a decay in [0, 1), got ",
          config.decay);
  const TagScope tag(Tag::optimizer);
  for (const auto& one : parameters_.list) {
    require_order(static_cast<bool>(one->master),
                  "[ema] expected initialised parameters; call initialize() first");
    averages_.push_back(empty_like(one->master));
    launch(one->master.device(),
           kernel::Copy{one->master.in(), averages_.back().out(), Write::set});
  }
}

double Ema::decay_after(Step done) const {
  const auto t = static_cast<double>(std::max<int64_t>(done.value - 1, 0));
  return config_.warm_up ? std::min(config_.decay, (1 + t) / (10 + t)) : config_.decay;
}

void Ema::update(const StepReport& report) {
  require_order(!swapped_,
                "[ema] expected the model's own weights, got the averages; end the EmaScope first");
  if (report.skipped) return;
  const double gain = 1 - decay_after(report.step);
  for (size_t i = 0; i < averages_.size(); ++i) {
    const Tensor& weight = parameters_.list[i]->master;
    map(fold::Average{gain}, weight.device(), {averages_[i].out()}, {weight.in()});
  }
}

void Ema::visit(Visitor& part) {
  require_order(!swapped_,
                "[ema] expected to be saved or loaded outside of an EmaScope; end it first");
  for (size_t i = 0; i < averages_.size(); ++i) part(parameters_.list[i]->name, averages_[i]);
}

void Ema::swap() {
  for (size_t i = 0; i < averages_.size(); ++i) {
    ParameterState& parameter = *parameters_.list[i];
    map(fold::Swap{}, parameter.master.device(), {parameter.master.out(), averages_[i].out()});
    parameter.changed();
  }
  swapped_ = !swapped_;
}

EmaScope::EmaScope(Ema& ema) : ema_(ema) {
  require_order(!ema.swapped_, "[ema] expected one EmaScope at a time, got another; end the first");
  ema.swap();
}

}  // namespace accrue
