// CycleOptions::at_edge: when it is called, and what may be done there.
#include "support.h"

namespace accrue::test {
namespace {

const Where single{Device::cpu(), DType::f32};

/// x, and yet the whole cycle must have come so far.
struct Gate {
  void gather(const Tensor&) const {}
  void gather_backward(const Saved&, const Tensor&) const {}
  Tensor forward(Saved&, const Tensor& x) const { return x; }
  void backward(const Saved&, const Tensor& dy, Edge dx) const { dx.pass(dy); }
};
static_assert(NeedsCycle<Gate>);

struct Stage {
  Linear net{3, 2, normal(0.5)};
  Rows batch = random_rows(6, 3, 2, single, 1);
  std::vector<int64_t> edges;

  Stage() { initialize(net, {single.device, single.dtype}, Seed{1}); }
  Loss loss(const Rows& micro) const { return mean_squared_error(net(micro.x), micro.y); }
  auto closure() const {
    return [this](const Rows& micro) { return loss(micro); };
  }
  CycleOptions options() {
    return {.at_edge = [this](MicroStep done) { edges.push_back(done.value); }};
  }
};

using Edges = std::vector<int64_t>;

}  // namespace

TEST_CASE("run() calls at_edge after each micro-batch, the last one too, with the number done") {
  Stage s;
  Cycle cycle(parameters(s.net), s.options());
  (void)cycle.run(s.batch, {.samples = 4}, s.closure());
  CHECK(s.edges == Edges{1, 2});
  (void)cycle.run(s.batch, {.samples = 6}, s.closure());
  CHECK(s.edges == Edges{1, 2, 1});
}

TEST_CASE("a micro-batch that a filter drops has an edge as well") {
  Stage s;
  Numbers y = s.batch.y.to_vector();
  y[0] = NAN;
  s.batch.y = tensor_of({6, 2}, y, single);
  CycleOptions options = s.options();
  options.filter = filters::drop_non_finite();
  Cycle cycle(parameters(s.net), options);
  (void)cycle.run(s.batch, {.samples = 2}, s.closure());
  CHECK(s.edges == Edges{1, 2, 3});
}

TEST_CASE("with cycle operations, whose micro-batches end together, it is called once at the end") {
  Stage s;
  Cycle cycle(parameters(s.net), s.options());
  (void)cycle.run(s.batch, {.samples = 2}, [&](const Rows& micro) {
    return mean_squared_error(record("gate", Gate{}, s.net(micro.x)), micro.y);
  });
  CHECK(s.edges == Edges{3});
}

TEST_CASE("by hand nobody calls it: the loop is at the edge itself") {
  Stage s;
  Cycle cycle(parameters(s.net), s.options());
  for (const Rows& micro : cycle.split(s.batch, {.samples = 2})) {
    MicroScope scope = cycle.begin(micro);
    scope.backward(s.loss(micro));
  }
  (void)cycle.close();
  CHECK(s.edges.empty());
  // Begun by hand, run() goes on and calls it for what it does itself.
  const Rows micro = cycle.split(s.batch, {.samples = 2})[0];
  {
    MicroScope scope = cycle.begin(micro);
    scope.backward(s.loss(micro));
  }
  (void)cycle.run(s.batch, {.samples = 2}, s.closure());
  CHECK(s.edges == Edges{2, 3});
}

TEST_CASE("at an edge the cycle can be saved, and what is thrown leaves it there") {
  Stage s;
  std::optional<Cycle> cycle;
  std::string saved;
  CycleOptions options;
  options.at_edge = [&](MicroStep done) {
    CHECK(cycle->micro_batches() == done);
    saved = state_bits(*cycle);
    if (done.value == 2) throw Failure("stop");
  };
  cycle.emplace(parameters(s.net), options);
  CHECK_THROWS_AS((void)cycle->run(s.batch, {.samples = 2}, s.closure()), Failure);
  CHECK(cycle->micro_batches() == MicroStep{2});
  CHECK(state_bits(*cycle) == saved);
  CHECK(cycle->run(s.batch, {.samples = 2}, s.closure()).micro_batches() == MicroStep{3});
}

}  // namespace accrue::test
