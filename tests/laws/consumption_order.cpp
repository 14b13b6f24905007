// Stepping in backward, watched from inside backward: a layer is stepped as soon as its last use in
// the last micro-batch is through, while the layers before it are still to come.
#include <functional>
#include <set>

#include "support.h"

namespace accrue::test {
namespace {

const Where wheres[]{{Device::cpu(), DType::f32}, {Device::cpu(), DType::bf16}, exact()};

using Names = std::set<std::string>;

// y = x + own. Its rule looks around before it deposits.
struct LookOp {
  std::function<void()> look;
  Tensor forward(Saved&, const Tensor& x, const Tensor& own) const {
    Tensor y = empty_like(x);
    launch(x.device(),
           kernel::Binary{kernel::BinaryFormula::add, x.in(), own.in(), y.out(), Write::set});
    return y;
  }
  void backward(const Saved&, const Tensor& dy, Edge dx, Edge down) const {
    look();
    if (dx) dx.pass(dy);
    const Deposit d = down.place();
    launch(dy.device(), kernel::SumTo{dy.in(), d.into, d.write});
  }
};

struct Net {
  Parameter own{Shape{3}, normal(0.5)};
  Linear up{3, 4, normal(0.5)}, down{4, 3, normal(0.5)};
  explicit Net(Where where) { initialize(*this, {where.device, where.dtype}, Seed{1}); }
  void visit(Visitor& part) { part("own", own), part("up", up), part("down", down); }
};

// Which parameters have other masters than before the cycle, when the rule of its first operation
// runs in each micro-batch, and at last. `tied`: the last operation uses `own` too.
std::vector<Names> stepped(Where where, bool backward, bool tied) {
  const Net net(where);
  const Rows batch = random_rows(6, 3, 3, where, 1);
  Sgd optimizer(parameters(net), {.lr = 0.1});
  CycleOptions options{.skip_non_finite = false};
  if (backward) options.consume = in_backward({&optimizer});
  Cycle cycle(parameters(net), options);
  std::vector<std::string> before;
  for (const auto& one : parameters(net).list) before.push_back(bits_of(one->master));
  std::vector<Names> seen;
  const auto look = [&] {
    Names& now = seen.emplace_back();
    const auto& list = parameters(net).list;
    for (size_t i = 0; i < list.size(); ++i)
      if (bits_of(list[i]->master) != before[i]) now.insert(list[i]->name);
  };
  ClosedCycle closed = cycle.run(batch, {.samples = 2}, [&](const Rows& micro) {
    const Var x = record("look", LookOp{look}, micro.x, net.own);
    const Var y = net.down(gelu(net.up(x)));
    return mean_squared_error(tied ? y + net.own : y, micro.y);
  });
  look();
  optimizer.step(std::move(closed));
  return seen;
}

const Names none, later{"down.bias", "down.weight", "up.bias", "up.weight"},
    all{"down.bias", "down.weight", "own", "up.bias", "up.weight"};

}  // namespace

TEST_CASE("when the first operation's rule runs, all later layers are stepped and its own is not") {
  for (Where where : wheres) {
    CAPTURE(text_of(where));
    CHECK(stepped(where, true, false) == std::vector{none, none, later, all});
  }
}

TEST_CASE("a parameter used at both ends waits for its last deposit, not for its first") {
  for (Where where : wheres) {
    CAPTURE(text_of(where));
    CHECK(stepped(where, true, true) == std::vector{none, none, later, all});
  }
}

TEST_CASE("with consumption at close nothing is stepped before step()") {
  for (bool tied : {false, true})
    CHECK(stepped(wheres[0], false, tied) == std::vector{none, none, none, none});
}

}  // namespace accrue::test
