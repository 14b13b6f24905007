#include <cmath>

#include "accrue/core/kernels.h"
#include "accrue/optim/optimizers.h"

namespace accrue {

Adam::Adam(Parameters parameters, AdamConfig config)
    : Adam(std::move(parameters), std::move(config), false) {}

Adam::Adam(Parameters parameters, AdamConfig config, bool decoupled)
    : Optimizer(std::move(parameters), std::move(config.groups), config.weight_decay, config.lr,
                config.clip, {"mean", "variance"}),
      beta1_(config.beta1),
      beta2_(config.beta2),
      epsilon_(config.epsilon),
      decoupled_(decoupled) {
  require(beta1_ >= 0 && beta1_ < 1 && beta2_ >= 0 && beta2_ < 1,
          "[adam] expected beta1 and beta2 in [0, 1), got ", beta1_, " and ", beta2_);
  require(epsilon_ >= 0, "[adam] expected epsilon of at least 0, got ", epsilon_);
}

void Adam::update(const Update& u, const Group& group, std::span<const size_t> members,
                  std::span<const In> sums) {
  std::vector<kernel::AdamItem> items;
  for (size_t i = 0; i < members.size(); ++i) {
    const size_t p = members[i];
    items.push_back(
        {sums[i], parameter(p).master.out(), state(p, 0).out(), state(p, 1).out(), copy_of(p)});
  }
  const auto t = static_cast<double>(u.step.value + 1);
  launch(parameter(members[0]).master.device(),
         kernel::Adam{items, u.scale, u.lr, beta1_, beta2_, epsilon_, *group.weight_decay,
                      1 - std::pow(beta1_, t), 1 - std::pow(beta2_, t), decoupled_});
}

}  // namespace accrue
