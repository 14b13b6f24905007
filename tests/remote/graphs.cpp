// Laws of graphs: what is replayed has the bits of what is run. The device keeps every launch's
// arguments by value, and nothing runs while a graph is made. Long: its
// laws share one way to trace a training and to compare it.
#include <set>

#include "remote/training.h"

namespace accrue::test {
namespace {

constexpr int steps = 5;  // a kind's first micro-batch runs eagerly, the second is captured

Choice with_graphs(Choice choice) {
  choice.options = [made = choice.options](AdamW& adam) {
    CycleOptions options = made(adam);
    options.graphs = true;
    return options;
  };
  return choice;
}

Choice choice_of(std::string_view name) {
  for (const Choice& one : choices())
    if (one.name == name) return one;
  FAIL("no choice " << name);
  return {};
}

/// What a run leaves: reports, records, and all bits.
struct Trace {
  std::vector<double> numbers;
  std::string bits;
  GraphUse use;
  bool operator==(const Trace& other) const {
    const auto same = [](double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); };
    return bits == other.bits && std::ranges::equal(numbers, other.numbers, same);
  }
};

/// `between` is called after each step.
Trace traced(Training& training, const std::function<void(Training&, int)>& between = {}) {
  Trace trace;
  for (int i = 0; i < steps; ++i) {
    const StepReport report = training.step();
    for (double one : {report.mean_loss, report.gradient_norm, report.count, 1.0 * report.skipped})
      trace.numbers.push_back(one);
    for (const MicroRecord& one : training.cycle.records())
      for (double figure : {one.loss, one.count, 1.0 * one.samples})
        trace.numbers.push_back(figure);
    if (between) between(training, i);
  }
  trace.bits = training.bits();
  trace.use = training.cycle.graphs();
  return trace;
}

Trace traced(Device device, const Choice& choice,
             const std::function<void(Training&, int)>& between = {}) {
  Training training(device, choice);
  return traced(training, between);
}

/// Takes blocks of every size that a small model may have freed, and leaves NaN in them.
void soil_free_memory() {
  std::vector<Tensor> taken;
  for (int64_t size = 16; size <= 8192; size *= 2)
    for (int64_t part : {8, 9, 10, 11, 12, 13, 14, 15})
      for (int copies = 0; copies < 6; ++copies) {
        Tensor& one = taken.emplace_back(Shape{size * part / 8}, DType::f32, remote());
        launch(remote(), kernel::Fill{one.out(), std::nan("")});
      }
}

/// One weight row per sample, to look at loops of one's own.
struct Plain {
  Tensor tokens, targets;
  std::vector<int64_t> indices;
  std::span<const int64_t> samples() const { return indices; }
  Plain slice(int64_t first, int64_t count) const {
    return {tokens.slice(first, count),
            targets.slice(first, count),
            {indices.begin() + first, indices.begin() + first + count}};
  }
};
Plain plain(const TokenBatch& batch) { return {batch.tokens, batch.targets, batch.indices}; }

/// A batch that forgets to list its targets.
struct Forgetful : Plain {
  Forgetful slice(int64_t first, int64_t count) const { return {Plain::slice(first, count)}; }
  void visit(Visitor& part) { part("tokens", tokens); }
};

/// Cycles of any batch and closure on one training; the last reason not to use a graph.
template <class Make, class F>
Trace looped(const Choice& choice, const Make& make, const F& loss) {
  Training training(remote(), choice);
  Trace trace;
  for (int i = 0; i < steps; ++i) {
    const auto batch = make(training.loader.next());
    const StepReport report = training.optimizer.step(training.cycle.run(
        batch, {.samples = 2}, [&](const auto& micro) { return loss(training, micro); }));
    trace.numbers.push_back(report.mean_loss);
  }
  trace.bits = training.bits();
  trace.use = training.cycle.graphs();
  return trace;
}

const auto as_it_is = [](const TokenBatch& batch) { return batch; };
const auto model_loss = [](const Training& training, const auto& micro) {
  return cross_entropy(training.model.hidden(micro.tokens), training.model.head(), micro.targets,
                       -100, 4);
};

}  // namespace

TEST_CASE("with graphs every choice of accumulation has the bits it has without") {
  const std::set<std::string> eager{"bf16_stochastic", "tree",    "fixed_point",     "clip",
                                    "agreement",       "observe", "drop-non-finite", "tier ranks",
                                    "into moments"};
  for (const Choice& choice : choices()) {
    INFO(choice.name);
    const Trace with = traced(remote(), with_graphs(choice)), without = traced(remote(), choice);
    CHECK(with == without);
    CHECK(without.use.replayed == 0);
    if (eager.contains(choice.name)) {
      CHECK(with.use.replayed == 0);
      CHECK(with.use.why_eager.size() > 0);
      continue;
    }
    CHECK(with.use.captured > 0);
    CHECK(with.use.replayed > 0);
  }
}

TEST_CASE("a closure is called for the first two micro-batches of each kind alone") {
  Training training(remote(), with_graphs(choice_of("f32")));
  int calls = 0;
  for (int i = 0; i < steps; ++i) {
    const TokenBatch batch = training.loader.next();
    training.optimizer.step(training.cycle.run(batch, {.samples = 1}, [&](const TokenBatch& micro) {
      ++calls;
      return training.loss(micro);
    }));
  }
  // Micro-batches of one sample: a cycle's first one, and all others.
  CHECK(calls == 4);
  const GraphUse use = training.cycle.graphs();
  CHECK(use.captured == 2);
  CHECK(use.eager == 2);
  CHECK(use.replayed == 5 * steps - 2);
}

TEST_CASE(
    "dropout differs between micro-batches and cycles, in replays too; a baked key is found") {
  const Choice choice = choice_of("f32");
  const Trace right = traced(remote(), choice);
  CHECK(traced(remote(), with_graphs(choice)) == right);
  const BakedKeys wrong;
  CHECK(traced(remote(), choice) == right);  // nothing is kept where nothing is recorded
  CHECK(!(traced(remote(), with_graphs(choice)) == right));
}

TEST_CASE("a batch's tensors are what is replayed; one that the batch does not list is found") {
  const auto forgetful = [](const TokenBatch& batch) { return Forgetful{plain(batch)}; };
  const Choice choice = choice_of("f32");
  const Trace right = looped(choice, as_it_is, model_loss);
  CHECK(looped(with_graphs(choice), as_it_is, model_loss) == right);
  CHECK(looped(choice, forgetful, model_loss) == right);
  CHECK(!(looped(with_graphs(choice), forgetful, model_loss) == right));
}

TEST_CASE("nobody else writes to the memory of graphs between their replays") {
  const Choice choice = choice_of("kahan");
  const auto soil = [](Training&, int) { soil_free_memory(); };
  const Choice at_edges{"soiled", [](AdamW&) {
                          return CycleOptions{.accumulate = accumulators::parse("kahan"),
                                              .at_edge = [](MicroStep) { soil_free_memory(); }};
                        }};
  const Trace right = traced(remote(), choice);
  CHECK(traced(remote(), with_graphs(choice), soil) == right);
  const Trace often = traced(remote(), with_graphs(at_edges), soil);
  CHECK(often == right);
  CHECK(often.use.replayed > 0);
}

TEST_CASE("a loss scale that grows and overflows goes into replays") {
  const auto scaled = [](double initial) {
    return Choice{"scaled",
                  [=](AdamW&) {
                    return CycleOptions{.loss_scale = std::make_shared<LossScale>(LossScaleConfig{
                                            .initial = initial, .growth_interval = 1})};
                  },
                  DType::f16};
  };
  for (const double initial : {1024.0, 0x1p40}) {
    const Trace right = traced(remote(), scaled(initial));
    const Trace with = traced(remote(), with_graphs(scaled(initial)));
    CHECK(with == right);
    CHECK(with.use.replayed > 0);
  }
}

TEST_CASE("weights that are written between cycles go into replays") {
  const auto shrink = [](Training& training, int i) {
    if (i < 2) return;  // the graphs were made of fresh copies
    for (const auto& one : parameters(training.model).list) {
      launch(remote(), kernel::Scale{one->master.in(), {}, 0.5, one->master.out(), Write::set});
      one->changed();
    }
  };
  const auto plain = [](AdamW&) { return CycleOptions{}; };
  for (const DType dtype : {DType::f32, DType::bf16}) {  // bf16: operations read copies
    const Choice choice{"weights", plain, dtype};
    const Trace right = traced(remote(), choice, shrink);
    CHECK(!(right == traced(remote(), choice)));
    const Trace with = traced(remote(), with_graphs(choice), shrink);
    CHECK(with == right);
    CHECK(with.use.replayed > 0);
  }
}

TEST_CASE("freezing and thawing make kinds of their own") {
  const auto freezes = [](Training& training, int i) {
    const Parameters some = parameters(training.model).matching("*mlp*");
    i % 2 == 0 ? freeze(some) : unfreeze(some);
  };
  const Trace right = traced(remote(), choice_of("f32"), freezes);
  const Trace replayed = traced(remote(), with_graphs(choice_of("f32")), freezes);
  CHECK(replayed == right);
  CHECK(replayed.use.replayed > 0);
}

TEST_CASE("two closures of one cycle do not replay each other") {
  const auto run = [](const Choice& choice) {
    Training training(remote(), choice);
    for (int i = 0; i < 2 * steps; ++i) {
      const TokenBatch batch = training.loader.next();
      const auto one = [&](const TokenBatch& micro) { return training.loss(micro); };
      const auto other = [&](const TokenBatch& micro) {
        const Loss loss = training.loss(micro);
        return Loss(scale(loss.sum(), 0.25), loss.count());
      };
      training.optimizer.step(i % 2 ? training.cycle.run(batch, {.samples = 2}, one)
                                    : training.cycle.run(batch, {.samples = 2}, other));
    }
    CHECK((training.cycle.graphs().replayed > 0) == (choice.name == "graphs"));
    return training.bits();
  };
  Choice with = with_graphs(choice_of("f32"));
  with.name = "graphs";
  CHECK(run(with) == run(choice_of("f32")));
}

TEST_CASE(
    "a cycle that is stopped at an edge goes on, or is discarded, to the bits without graphs") {
  const auto run = [](Choice choice, bool discards) {
    int64_t edges = 0, stop_at = -1;
    choice.options = [&, made = choice.options](AdamW& adam) {
      CycleOptions options = made(adam);
      options.at_edge = [&](MicroStep) {
        if (++edges == stop_at) throw std::runtime_error("stop");
      };
      return options;
    };
    Training training(remote(), choice);
    for (int i = 0; i < 3; ++i) training.step();
    for (const int64_t more : {1, 2}) {
      stop_at = edges + more;
      CHECK_THROWS_AS(training.step(), std::runtime_error);
      if (discards) training.cycle.discard();
      training.step();
    }
    return training.bits();
  };
  for (const bool discards : {false, true})
    CHECK(run(with_graphs(choice_of("kahan")), discards) == run(choice_of("kahan"), discards));
}

TEST_CASE("graphs die with their cycle and give all memory back") {
  const auto used = [] { return remote().backend->memory->use().total; };
  const int64_t before = used();
  traced(remote(), with_graphs(choice_of("kahan")));
  CHECK(used() == before);
  soil_free_memory();  // the pool's blocks are anybody's again
  CHECK(used() == before);
}

TEST_CASE("a cycle that was begun by hand ends in graphs with the bits of one without") {
  const auto interrupted = [](const Choice& choice) {
    Training training(remote(), choice);
    for (int i = 0; i < 3; ++i) training.step();
    const TokenBatch batch = training.loader.peek();
    training.begin_cycle(1);  // by hand, as ever
    const StepReport report = training.optimizer.step(training.cycle.run(
        batch, {.samples = 2}, [&](const TokenBatch& micro) { return training.loss(micro); }));
    CHECK(!report.skipped);
    return training.bits();
  };
  CHECK(interrupted(with_graphs(choice_of("kahan"))) == interrupted(choice_of("kahan")));
}

TEST_CASE("what cannot be replayed runs eagerly, to the same bits, and says why") {
  const auto check = [](const Choice& choice, const auto& make, const auto& loss,
                        std::string_view word) {
    const Trace with = looped(with_graphs(choice), make, loss);
    CHECK(with == looped(choice, make, loss));
    CHECK(with.use.replayed == 0);
    CHECK_MESSAGE(contains(with.use.why_eager, word), with.use.why_eager);
  };
  const Choice f32 = choice_of("f32");
  check(f32, plain, model_loss, "visit(Visitor&)");
  check(
      f32, as_it_is,
      [](const Training& training, const TokenBatch& micro) {
        const Loss loss = model_loss(training, micro);
        return Loss(scale(loss.sum(), 1 + 0 * loss.sum().value().item()), loss.count());
      },
      "no transfer");
  check(
      f32, as_it_is,
      [](const Training& training, const TokenBatch& micro) {
        return Loss(model_loss(training, micro).sum(), micro.count());
      },
      "known on the host");
  check(
      f32, as_it_is,
      [](const Training& training, const TokenBatch& micro) {
        return Loss::share(model_loss(training, micro).sum(), 30);
      },
      "share");
  check(choice_of("clip"), as_it_is, model_loss, "filter clip");
  check(choice_of("tree"), as_it_is, model_loss, "folds of tree");
  const auto on_host = [](const TokenBatch& batch) {
    TokenBatch here = batch;
    here.tokens = batch.tokens.to(Device::reference());
    return here;
  };
  check(f32, on_host, model_loss, "another device");
}

TEST_CASE(
    "the last micro-batch of steps in backward runs eagerly; backends without graphs say so") {
  const GraphUse use = traced(remote(), with_graphs(choice_of("in backward"))).use;
  CHECK_MESSAGE(contains(use.why_eager, "in_backward"), use.why_eager);
  CHECK(use.replayed > 0);
  const GraphUse none = traced(Device::reference(), with_graphs(choice_of("f32"))).use;
  CHECK_MESSAGE(contains(none.why_eager, "reference"), none.why_eager);
  CHECK(contains(traced(remote(), choice_of("f32")).use.why_eager, "CycleOptions::graphs"));
}

TEST_CASE("an error in the closure while a graph is made leaves the cycle as it was") {
  Training training(remote(), with_graphs(choice_of("f32"))), other(remote(), choice_of("f32"));
  const TokenBatch batch = training.loader.peek();
  int calls = 0;
  const auto failing = [&](const TokenBatch& micro) {
    Loss loss = training.loss(micro);
    if (++calls == 3) throw std::runtime_error("of the user's");
    return loss;
  };
  // Samples one by one: the third is the second of the later ones, and captured.
  CHECK_THROWS_AS((void)training.cycle.run(batch, {.samples = 1}, failing), std::runtime_error);
  CHECK(training.cycle.micro_batches() == MicroStep{2});
  training.optimizer.step(training.cycle.run(batch, {.samples = 1}, failing));
  other.optimizer.step(other.cycle.run(batch, {.samples = 1},
                                       [&](const TokenBatch& micro) { return other.loss(micro); }));
  CHECK(weight_bits(parameters(training.model)) == weight_bits(parameters(other.model)));
  CHECK(training.cycle.graphs().captured == 1);
}

}  // namespace accrue::test
