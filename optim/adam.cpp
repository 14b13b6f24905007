#include <algorithm>
#include <cmath>
#include <numbers>

#include "accrue/core/kernels.h"
#include "accrue/optim/optimizers.h"

namespace accrue {

namespace {

// How much of a moment a step of this count keeps.
double beta_of(double beta, double half_life, double count) {
  return half_life == 0 ? beta : std::exp2(-count / half_life);
}

// And how much of the moment's beginning at zero is gone after it.
struct Decay {
  double beta, correction;
};
Decay decay_of(double beta, double half_life, double count, double counted, double t) {
  return {beta_of(beta, half_life, count),
          half_life == 0 ? 1 - std::pow(beta, t)
                         : -std::expm1(-std::numbers::ln2 * counted / half_life)};
}

}  // namespace

Adam::Adam(Parameters parameters, AdamConfig config)
    : Adam(std::move(parameters), std::move(config), false) {}

Adam::Adam(Parameters parameters, AdamConfig config, bool decoupled)
    : Optimizer(std::move(parameters), std::move(config.groups), config.weight_decay, config.lr,
                config.clip, {"mean", "variance"}),
      beta1_(config.beta1),
      beta2_(config.beta2),
      half_life1_(config.beta1_half_life),
      half_life2_(config.beta2_half_life),
      epsilon_(config.epsilon),
      decoupled_(decoupled) {
  require(beta1_ >= 0 && beta1_ < 1 && beta2_ >= 0 && beta2_ < 1,
          "[adam] expected beta1 and beta2 in [0, 1), got ", beta1_, " and ", beta2_);
  require(half_life1_ >= 0 && half_life2_ >= 0,
          "[adam] expected half-lives above 0 (0: beta per step), got ", half_life1_, " and ",
          half_life2_);
  require(epsilon_ >= 0, "[adam] expected epsilon of at least 0, got ", epsilon_);
}

void Adam::update(const Update& u, const Group& group, std::span<const size_t> members,
                  std::span<const In> sums) {
  // What was folded into the moments in this cycle is only applied.
  std::vector<kernel::AdamItem> whole, folded;
  for (size_t i = 0; i < members.size(); ++i) {
    const size_t p = members[i];
    const bool is_folded = !folded_.empty() && folded_[p] == u.cycle.value;
    (is_folded ? folded : whole)
        .push_back({is_folded ? In() : sums[i], parameter(p).master.out(), state(p, 0).out(),
                    state(p, 1).out(), copy_of(p)});
  }
  const auto t = static_cast<double>(u.step.value + 1);
  const Decay first = decay_of(beta1_, half_life1_, u.count, u.counted, t),
              second = decay_of(beta2_, half_life2_, u.count, u.counted, t);
  kernel::Adam all{whole,
                   u.scale,
                   u.lr,
                   first.beta,
                   1 - first.beta,
                   second.beta,
                   1 - second.beta,
                   epsilon_,
                   *group.weight_decay,
                   first.correction,
                   second.correction,
                   decoupled_};
  const Device device = parameter(members[0]).master.device();
  if (!whole.empty()) launch(device, all);
  all.items = folded;
  all.decay1 = all.decay2 = 1;
  all.gain1 = all.gain2 = 0;
  if (!folded.empty()) launch(device, all);
}

void Adam::allow_folding() {
  require(clip() == 0,
          "[adam] expected no clip by the global norm where gradients go into the "
          "moments one by one, got ",
          clip(), "; clip each micro-batch by a filter, or use f32");
  require(decoupled_ || !decays(),
          "[adam] expected weight decay outside of the gradient, which "
          "goes into the moments one by one; use AdamW");
  folded_.resize(parameters().size(), -1);
}

void Adam::fold(const ParameterState& one, In sum, double divisor, double share, bool first,
                CycleIndex cycle) {
  const auto& list = parameters().list;
  const auto found = std::ranges::find(list, &one, [](const auto& p) { return p.get(); });
  require(found != list.end(), "[adam] expected one of its parameters, got ", one.name,
          "; fold each parameter into the optimizer that steps it");
  const size_t p = found - list.begin();
  folded_[p] = cycle.value;
  const double beta1 = beta_of(beta1_, half_life1_, divisor),
               beta2 = beta_of(beta2_, half_life2_, divisor);
  const kernel::AdamItem item{sum, {}, state(p, 0).out(), state(p, 1).out(), {}};
  launch(one.master.device(), kernel::Adam{{&item, 1},
                                           1 / divisor,
                                           0,
                                           first ? beta1 : 1,
                                           1 - beta1,
                                           first ? beta2 : 1,
                                           (1 - beta2) * share,
                                           epsilon_,
                                           0,
                                           1,
                                           1,
                                           true});
}

void Adam::visit_more(Visitor& part) {
  for (size_t p = 0; p < folded_.size(); ++p) part("folded." + parameter(p).name, folded_[p]);
}

}  // namespace accrue
