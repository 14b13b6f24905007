// A loss carries what its sum is divided by; a cycle has one denominator.
#include <map>

#include "support.h"

namespace accrue::test {
namespace {

struct Net {
  Linear layer{3, 2, normal(0.5)};
  Var operator()(const Var& x) const { return layer(x); }
  void visit(Visitor& part) { part("layer", layer); }
};

struct Stage {
  Net net;
  Rows batch = random_rows(6, 3, 2, exact(), 1);
  Stage() { initialize(net, {exact().device, exact().dtype}, Seed{1}); }
  Loss loss(const Rows& micro) const { return mean_squared_error(net(micro.x), micro.y); }
};

// A batch that declares its total beforehand.
struct Declared : Rows {
  int64_t total;
  Declared(Rows rows, int64_t n) : Rows(std::move(rows)), total(n) {}
  Declared slice(int64_t first, int64_t n) const { return {Rows::slice(first, n), total}; }
  int64_t count() const { return total; }
};

Var one_number(double value) { return tensor_of({1}, {value}, exact()); }
Tensor count_of(double value) { return Tensor::scalar(value, DType::i64, Device::reference()); }

}  // namespace

TEST_CASE("a loss is a sum of shape [1] with a count that can be") {
  CHECK_THROWS_AS(Loss(random_tensor({2}, exact(), 1), 2), BadArgument);
  CHECK_THROWS_AS(Loss(one_number(1), -1), BadArgument);
  CHECK_THROWS_AS(Loss(one_number(1), random_tensor({1}, exact(), 1)), BadArgument);
  CHECK_THROWS_AS(Loss::share(one_number(1), 0), BadArgument);
  CHECK_NOTHROW(Loss(one_number(1), 0));
}

TEST_CASE("losses of one count add up; of different counts only as shares of declared totals") {
  const Loss a(one_number(3), 4), b(one_number(5), 4), c(one_number(5), 8);
  CHECK((a + b).sum().value().item() == 8);
  CHECK((a + b).count().item() == 4);
  CHECK(contains(message_of<BadArgument>([&] { (void)(a + c); }), "Loss::share"));
  const Loss shares = Loss::share(one_number(3), 4) + Loss::share(one_number(5), 8);
  CHECK(shares.is_share());
  CHECK(shares.sum().value().item() == doctest::Approx(3.0 / 4 + 5.0 / 8));
  CHECK_THROWS_AS((void)(a + Loss::share(one_number(3), 4)), BadArgument);
}

TEST_CASE("losses over one and the same count on the device add up; over equal ones they do not") {
  const Tensor count = count_of(4);
  const Loss a(one_number(3), count), b(one_number(5), count), c(one_number(5), count_of(4));
  CHECK((a + b).count().item() == 4);
  CHECK_THROWS_AS((void)(a + c), BadArgument);  // to know that they are equal would synchronise
}

TEST_CASE("the mean loss of a cycle is the sum of sums over the sum of counts") {
  Stage s;
  Cycle cycle(parameters(s.net));
  const ClosedCycle closed =
      run_by_hand(cycle, s.batch, {1, 5}, [&](const Rows& r) { return s.loss(r); });
  CHECK(closed.count() == 12);
  CHECK(closed.mean_loss() ==
        doctest::Approx(s.loss(s.batch).sum().value().item() / 12).epsilon(1e-14));
}

TEST_CASE("shares of a total give the gradients of the mean; the cycle divides by nothing more") {
  Stage s;
  Cycle counted(parameters(s.net)), shared(parameters(s.net));
  const auto share = [&](const Rows& r) { return Loss::share(s.loss(r).sum(), 12); };
  const ClosedCycle a =
      run_by_hand(counted, s.batch, {1, 5}, [&](const Rows& r) { return s.loss(r); });
  const ClosedCycle b = run_by_hand(shared, s.batch, {1, 5}, share);
  CHECK(b.count() == 1);
  CHECK(b.mean_loss() == doctest::Approx(a.mean_loss()).epsilon(1e-14));
  Many mean = sums_of(a);
  for (Numbers& one : mean)
    for (double& number : one) number /= 12;
  CHECK(relative_error(sums_of(b), mean) <= 16 * u_f64);
}

TEST_CASE("a cycle with counted losses refuses shares, and the other way round") {
  Stage s;
  for (bool share_first : {true, false}) {
    Cycle cycle(parameters(s.net));
    const auto loss = [&](const Rows& r) {
      const bool share = (r.indices[0] == 0) == share_first;
      return share ? Loss::share(s.loss(r).sum(), 12) : s.loss(r);
    };
    CHECK(contains(message_of<BadArgument>([&] {
                     (void)run_by_hand(cycle, s.batch, {3, 3}, loss);
                   }),
                   "one denominator"));
  }
}

TEST_CASE("a cycle that loads another's state takes its kind of losses too") {
  Stage s;
  Cycle idle(parameters(s.net)), under_way(parameters(s.net));
  std::map<std::string, int64_t> saved;
  Visitor save({.integer = [&](const std::string& name, int64_t& n) { saved[name] = n; }});
  Visitor load({.integer = [&](const std::string& name, int64_t& n) { n = saved.at(name); }});
  idle.visit(save);
  {
    MicroScope scope = under_way.begin(s.batch);
    scope.backward(Loss::share(s.loss(s.batch).sum(), 12));
  }
  under_way.visit(load);
  const auto loss = [&](const Rows& r) { return s.loss(r); };
  CHECK(under_way.run(s.batch, {.samples = 3}, loss).count() == 12);
}

TEST_CASE("a batch's declared total must be what the losses counted") {
  Stage s;
  Sgd optimizer(parameters(s.net));
  const auto loss = [&](const Declared& r) { return s.loss(r); };
  Cycle cycle(parameters(s.net));
  CHECK(cycle.run(Declared(s.batch, 12), {.samples = 4}, loss).count() == 12);

  const std::string before = weight_bits(parameters(s.net));
  const std::string message = message_of<BadArgument>(
      [&] { optimizer.step(cycle.run(Declared(s.batch, 13), {.samples = 4}, loss)); });
  CHECK_MESSAGE((contains(message, "13") && contains(message, "12")), message);
  CHECK(weight_bits(parameters(s.net)) == before);
  // The refused cycle is gone, and its total with it.
  CHECK(cycle.run(s.batch, {.samples = 4}, [&](const Rows& r) { return s.loss(r); }).count() == 12);
  CHECK_THROWS_AS((void)cycle.run(Declared(s.batch, -2), {.samples = 4}, loss), BadArgument);
}

TEST_CASE("a batch that is refused declares nothing") {
  Stage s;
  Cycle cycle(parameters(s.net));
  const Declared batch(s.batch, 12), other(s.batch.slice(1, 5), 99);
  for (const Declared& micro : cycle.split(batch, {.samples = 3})) {
    MicroScope scope = cycle.begin(micro);
    CHECK_THROWS_AS((void)cycle.split(other, {.samples = 3}), BadOrder);
    scope.backward(s.loss(micro));
    CHECK_THROWS_AS((void)cycle.split(other, {.samples = 3}), BadOrder);
  }
  CHECK(cycle.close().count() == 12);
}

TEST_CASE("shares need not count up to the declared total") {
  Stage s;
  Cycle cycle(parameters(s.net));
  const ClosedCycle closed =
      cycle.run(Declared(s.batch, 12), {.samples = 4},
                [&](const Declared& r) { return Loss::share(s.loss(r).sum(), r.count()); });
  CHECK(closed.count() == 1);
}

}  // namespace accrue::test
