// A small net with a branch that a loss may leave out, its batch, and every optimizer: for laws
// about cycles and their steps.
#pragma once
#include <memory>

#include "support.h"

namespace accrue::test {

struct BranchedNet {
  Linear up{3, 4, normal(0.5)}, down{4, 2, normal(0.5)}, side{3, 2, normal(0.5)};
  Var operator()(const Var& x) const { return down(gelu(up(x))); }
  void visit(Visitor& part) { part("up", up), part("down", down), part("side", side); }
};

struct Branched {
  BranchedNet net;
  Rows batch;
  explicit Branched(Where where = {Device::cpu(), DType::f32})
      : batch(random_rows(6, 3, 2, where, 1)) {
    initialize(net, {where.device, where.dtype}, Seed{1});
  }
  Parameters all() const { return parameters(net); }
  Loss loss(const Rows& micro, bool with_side) const {
    const Var y = with_side ? net(micro.x) + net.side(micro.x) : net(micro.x);
    return mean_squared_error(y, micro.y);
  }
  ClosedCycle run(Cycle& cycle, bool with_side = true) const {
    return cycle.run(batch, {.samples = 2},
                     [=, this](const Rows& r) { return loss(r, with_side); });
  }
};

constexpr size_t optimizer_count = 3;
inline std::unique_ptr<Optimizer> make_optimizer(size_t which, const Parameters& p) {
  if (which == 0)
    return std::make_unique<Sgd>(p,
                                 SgdConfig{.momentum = 0.9, .weight_decay = 0.1, .nesterov = true});
  if (which == 1) return std::make_unique<Adam>(p, AdamConfig{.weight_decay = 0.1});
  return std::make_unique<AdamW>(p, AdamConfig{.weight_decay = 0.1, .clip = 1e-3});
}

}  // namespace accrue::test
