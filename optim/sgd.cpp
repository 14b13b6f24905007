#include "accrue/core/kernels.h"
#include "accrue/optim/optimizers.h"

namespace accrue {

Sgd::Sgd(Parameters parameters, SgdConfig config)
    : Optimizer(
          std::move(parameters), std::move(config.groups), config.weight_decay, config.lr,
          config.clip,
          config.momentum == 0 ? std::vector<std::string>{} : std::vector<std::string>{"velocity"}),
      momentum_(config.momentum),
      nesterov_(config.nesterov) {
  require(momentum_ >= 0 && momentum_ < 1, "[sgd] expected momentum in [0, 1), got ", momentum_);
  require(!nesterov_ || momentum_ > 0, "[sgd] expected momentum for nesterov, got 0");
}

void Sgd::update(const Update& u, const Group& group, std::span<const size_t> members,
                 std::span<const In> sums) {
  std::vector<kernel::SgdItem> items;
  for (size_t i = 0; i < members.size(); ++i) {
    const size_t p = members[i];
    items.push_back(
        {sums[i], parameter(p).master.out(), has_state() ? state(p, 0).out() : Out(), copy_of(p)});
  }
  launch(parameter(members[0]).master.device(),
         kernel::Sgd{items, u.scale, u.lr, momentum_, *group.weight_decay, nesterov_});
}

}  // namespace accrue
