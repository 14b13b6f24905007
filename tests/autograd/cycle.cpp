// The cycle's states: every call in every state is legal, or BadOrder that says what to do.
#include <algorithm>
#include <memory>
#include <optional>

#include "support.h"

namespace accrue::test {
namespace {

struct Net {
  Linear up{3, 4, normal(0.5)}, down{4, 2, normal(0.5)};
  Var operator()(const Var& x) const { return down(gelu(up(x))); }
  void visit(Visitor& part) { part("up", up), part("down", down); }
};

// A cycle that can be brought to any state, and what hangs on it there.
struct Stage {
  Net net;
  Rows batch = random_rows(6, 3, 2, exact(), 1);
  std::optional<Cycle> cycle;
  std::unique_ptr<MicroScope> scope;
  std::optional<ClosedCycle> closed;

  Stage() {
    initialize(net, {exact().device, exact().dtype}, Seed{1});
    cycle.emplace(parameters(net));
  }
  Loss loss(const Rows& micro) const { return mean_squared_error(net(micro.x), micro.y); }
  auto closure() const {
    return [this](const Rows& micro) { return loss(micro); };
  }
};

// Throws in backward, after some deposits.
struct Fails {
  Tensor forward(Saved&, const Tensor& x) const { return x; }
  void backward(const Saved&, const Tensor&, Edge) const { throw Failure("[fails] in backward"); }
};

const char* const phases[] = {"idle", "edge", "inside", "broken", "closed"};

std::unique_ptr<Stage> at(const std::string& phase) {
  auto stage = std::make_unique<Stage>();
  if (phase == "idle") return stage;
  const Rows micro = stage->batch.slice(0, 2);
  if (phase == "broken") {
    MicroScope scope = stage->cycle->begin(micro);
    const Var y = record("fails", Fails{}, stage->net(micro.x));
    CHECK_THROWS_AS(scope.backward(mean_squared_error(y, micro.y)), Failure);
    return stage;
  }
  // Both ways lead to an edge: the second also tells the cycle its batch, so that run() can resume.
  (void)stage->cycle->split(stage->batch, {.samples = 2});
  stage->scope.reset(new MicroScope(stage->cycle->begin(micro)));  // it cannot move
  if (phase == "inside") return stage;
  stage->scope->backward(stage->loss(micro));
  stage->scope.reset();
  if (phase == "closed") stage->closed.emplace(stage->cycle->close());
  return stage;
}

struct Call {
  const char* name;
  std::vector<std::string> legal;  // in these states; BadOrder in others
  std::function<void(Stage&)> call;
};

std::vector<Call> calls() {
  return {
      {"begin",
       {"idle", "edge"},
       [](Stage& s) { MicroScope one = s.cycle->begin(s.batch.slice(2, 2)); }},
      {"split", {"idle", "edge"}, [](Stage& s) { (void)s.cycle->split(s.batch, {.samples = 2}); }},
      {"run",
       {"idle", "edge"},
       [](Stage& s) { (void)s.cycle->run(s.batch, {.samples = 2}, s.closure()); }},
      {"close", {"edge"}, [](Stage& s) { (void)s.cycle->close(); }},
      {"visit", {"idle", "edge"}, [](Stage& s) { (void)state_bits(*s.cycle); }},
      {"discard", {"idle", "edge", "inside", "broken"}, [](Stage& s) { s.cycle->discard(); }},
      {"step()",
       {"idle", "edge", "inside", "broken", "closed"},
       [](Stage& s) { (void)s.cycle->step(); }},
      {"index()",
       {"idle", "edge", "inside", "broken", "closed"},
       [](Stage& s) { (void)s.cycle->index(); }},
  };
}

}  // namespace

TEST_CASE("every call in every state of a cycle is legal, or BadOrder with a next action") {
  for (const Call& call : calls())
    for (const std::string phase : phases) {
      CAPTURE(call.name);
      CAPTURE(phase);
      const auto stage = at(phase);
      if (std::ranges::find(call.legal, phase) != call.legal.end()) {
        CHECK_NOTHROW(call.call(*stage));
      } else {
        const std::string message = message_of<BadOrder>([&] { call.call(*stage); });
        CHECK_MESSAGE((contains(message, "[") && contains(message, "expected")), message);
        if (phase == "broken") CHECK_MESSAGE(contains(message, "discard()"), message);
      }
    }
}

TEST_CASE("a call that is refused changes nothing") {
  for (const std::string phase : {"edge", "closed"}) {
    const auto stage = at(phase), untouched = at(phase);
    for (const Call& call : calls())
      if (std::ranges::find(call.legal, phase) == call.legal.end())
        CHECK_THROWS_AS(call.call(*stage), BadOrder);
    if (!stage->closed) stage->closed.emplace(stage->cycle->close());
    if (!untouched->closed) untouched->closed.emplace(untouched->cycle->close());
    CHECK(sums_of(*stage->closed) == sums_of(*untouched->closed));
    CHECK(stage->closed->mean_loss() == untouched->closed->mean_loss());
  }
}

TEST_CASE("after any state a discarded cycle starts anew, as if nothing had been") {
  Stage fresh;
  const ClosedCycle expected = fresh.cycle->run(fresh.batch, {.samples = 2}, fresh.closure());
  for (const std::string phase : phases) {
    CAPTURE(phase);
    const auto stage = at(phase);
    if (phase == "closed")
      stage->closed.reset();  // dropped: discarded
    else
      stage->cycle->discard();
    stage->scope.reset();
    const ClosedCycle closed = stage->cycle->run(stage->batch, {.samples = 2}, stage->closure());
    CHECK(sums_of(closed) == sums_of(expected));
    CHECK(closed.mean_loss() == expected.mean_loss());
    CHECK(closed.micro_batches() == MicroStep{3});
  }
}

TEST_CASE("a scope goes backward once") {
  Stage s;
  const Rows micro = s.batch.slice(0, 2);
  MicroScope scope = s.cycle->begin(micro);
  scope.backward(s.loss(micro));
  CHECK(contains(message_of<BadOrder>([&] { scope.backward(s.loss(micro)); }), "begin the next"));
  CHECK(s.cycle->micro_batches() == MicroStep{1});
}

TEST_CASE("a loss computed outside the scope, which would train nothing, is refused") {
  Stage s;
  const Rows micro = s.batch.slice(0, 2);
  const Loss outside = s.loss(micro);
  const auto backward = [&](const Loss& loss) { s.cycle->begin(micro).backward(loss); };
  CHECK(contains(message_of<BadOrder>([&] { backward(outside); }), "compute it after begin()"));
  CHECK_THROWS_AS((void)s.cycle->close(), BadOrder);
  s.cycle->discard();
  const auto capture = [&](const Rows&) { return outside; };
  CHECK_THROWS_AS((void)s.cycle->run(micro, {.samples = 2}, capture), BadOrder);
  s.cycle->discard();
  CHECK_NOTHROW((void)s.cycle->run(micro, {.samples = 2}, s.closure()));
}

TEST_CASE("a scope inside another of the same cycle is refused, and the first goes on") {
  Stage s;
  const Rows micro = s.batch.slice(0, 2);
  MicroScope scope = s.cycle->begin(micro);
  const Var h = s.net(micro.x);
  CHECK(contains(message_of<BadOrder>([&] { MicroScope inner = s.cycle->begin(micro); }),
                 "inside a micro-batch"));
  scope.backward(mean_squared_error(h, micro.y));
  CHECK(s.cycle->micro_batches() == MicroStep{1});
}

TEST_CASE("a scope that is left before backward leaves the cycle at the edge before it") {
  Stage s, expected;
  for (Stage* one : {&s, &expected}) {
    const Rows micro = one->batch.slice(0, 2);
    MicroScope scope = one->cycle->begin(micro);
    scope.backward(one->loss(micro));
  }
  {
    MicroScope scope = s.cycle->begin(s.batch.slice(2, 2));
    (void)s.loss(s.batch.slice(2, 2));
  }
  CHECK(s.cycle->micro_batches() == MicroStep{1});
  CHECK(sums_of(s.cycle->close()) == sums_of(expected.cycle->close()));
}

TEST_CASE("an exception in the closure leaves the cycle at an edge, from which run() goes on") {
  Stage s, whole;
  int calls = 0;
  const auto throwing = [&](const Rows& micro) {
    if (++calls == 2) throw Failure("[closure] the third sample's file is gone");
    return s.loss(micro);
  };
  CHECK_THROWS_AS((void)s.cycle->run(s.batch, {.samples = 2}, throwing), Failure);
  CHECK(s.cycle->micro_batches() == MicroStep{1});
  const ClosedCycle resumed = s.cycle->run(s.batch, {.samples = 2}, s.closure());
  const ClosedCycle expected = whole.cycle->run(whole.batch, {.samples = 2}, whole.closure());
  CHECK(sums_of(resumed) == sums_of(expected));
  CHECK(resumed.count() == expected.count());
}

TEST_CASE("a cycle under way refuses another batch") {
  const auto stage = at("edge");
  const Rows other = stage->batch.slice(1, 5);
  CHECK(contains(message_of<BadOrder>(
                     [&] { (void)stage->cycle->run(other, {.samples = 2}, stage->closure()); }),
                 "discard()"));
}

TEST_CASE("an exception in backward breaks the cycle until it is discarded") {
  const auto stage = at("broken");
  CHECK(contains(message_of<BadOrder>([&] { (void)stage->cycle->close(); }), "broken"));
  stage->cycle->discard();
  CHECK_NOTHROW((void)stage->cycle->run(stage->batch, {.samples = 3}, stage->closure()));
}

TEST_CASE("frozen parameters are constants: no deposits, no place in the cycle needed") {
  Stage s;
  const Parameters up = parameters(s.net).matching("up.*");
  freeze(up);
  Cycle cycle(parameters(s.net).except(up));
  const ClosedCycle closed = cycle.run(s.batch, {.samples = 3}, s.closure());
  CHECK(closed.buffers().size() == 2);
  const ClosedCycle all = s.cycle->run(s.batch, {.samples = 3}, s.closure());
  CHECK(!all.sum(s.net.up.weight));
  CHECK(numbers_of(all.sum(s.net.down.weight)) == numbers_of(closed.sum(s.net.down.weight)));
}

TEST_CASE("a parameter that is neither in the cycle nor frozen is an error that names it") {
  Stage s;
  Cycle cycle(parameters(s.net).matching("up.*"));
  const std::string message =
      message_of<BadArgument>([&] { (void)cycle.run(s.batch, {.samples = 3}, s.closure()); });
  CHECK_MESSAGE((contains(message, "expected down.") && contains(message, "freeze(")), message);
  CHECK_NOTHROW(s.cycle->discard());
  const ClosedCycle closed = s.cycle->run(s.batch, {.samples = 3}, s.closure());
  Net other;
  initialize(other, {exact().device, exact().dtype}, Seed{2});
  CHECK(contains(message_of<BadArgument>([&] { (void)closed.sum(other.up.weight); }), "up.weight"));
}

TEST_CASE("evaluation inside a scope deposits nothing, even of parameters outside of the cycle") {
  Stage s, plain;
  Net teacher;
  initialize(teacher, {exact().device, exact().dtype}, Seed{2});
  const auto distil = [&](const Rows& micro) {
    Tensor target;
    {
      const Evaluation off;
      target = teacher(micro.x).value();
    }
    return mean_squared_error(s.net(micro.x), target);
  };
  const ClosedCycle closed = s.cycle->run(s.batch, {.samples = 3}, distil);
  Rows targets = s.batch;
  targets.y = teacher(s.batch.x).value();
  const ClosedCycle expected = plain.cycle->run(targets, {.samples = 3}, plain.closure());
  CHECK(sums_of(closed) == sums_of(expected));
}

TEST_CASE("a cycle is refused without parameters, with one twice, and before initialize()") {
  CHECK_THROWS_AS(Cycle(Parameters{}), BadArgument);
  Stage s;
  Parameters twice = parameters(s.net);
  twice.list.push_back(twice.list[0]);
  CHECK(contains(message_of<BadArgument>([&] { Cycle one(twice); }), "up.weight"));
  Net raw;
  CHECK(contains(message_of<BadOrder>([&] { Cycle one(parameters(raw)); }), "initialize()"));
}

TEST_CASE("empty batches and micro-batches of no samples are refused") {
  Stage s;
  CHECK_THROWS_AS((void)s.cycle->run(s.batch, {.samples = 0}, s.closure()), BadArgument);
  CHECK_THROWS_AS((void)s.cycle->split(s.batch, {.samples = -1}), BadArgument);
  CHECK_THROWS_AS((void)s.cycle->run(s.batch.slice(0, 0), {.samples = 1}, s.closure()),
                  BadArgument);
  CHECK_THROWS_AS(s.cycle->begin(s.batch.slice(0, 0)), BadArgument);
  CHECK_NOTHROW((void)s.cycle->run(s.batch, {.samples = 99}, s.closure()));
}

TEST_CASE("split, begin and close give the same bits as run") {
  Stage by_hand, by_run;
  for (const Rows& micro : by_hand.cycle->split(by_hand.batch, {.samples = 4})) {
    MicroScope scope = by_hand.cycle->begin(micro);
    scope.backward(by_hand.loss(micro));
  }
  const ClosedCycle a = by_hand.cycle->close();
  const ClosedCycle b = by_run.cycle->run(by_run.batch, {.samples = 4}, by_run.closure());
  CHECK(sums_of(a) == sums_of(b));
  CHECK(a.micro_batches() == MicroStep{2});
}

TEST_CASE("Step and CycleIndex advance at their own events") {
  Stage s;
  Sgd optimizer(parameters(s.net));
  (void)s.cycle->run(s.batch, {.samples = 4}, s.closure());  // dropped
  CHECK(s.cycle->index() == CycleIndex{1});
  CHECK(s.cycle->step() == Step{0});
  optimizer.step(s.cycle->run(s.batch, {.samples = 4}, s.closure()));
  CHECK(s.cycle->index() == CycleIndex{2});
  CHECK(s.cycle->step() == Step{1});
  s.cycle->discard();
  CHECK(s.cycle->index() == CycleIndex{2});
}

}  // namespace accrue::test
