// Consumption in backward: the bits of a step at close, each parameter once and after its last
// deposit, and what it refuses. Into moments: see moments.cpp. Long: its laws share one
// table of optimizers.
#include <map>

#include "support.h"

namespace accrue::test {
namespace {

using Optimizers = std::vector<std::unique_ptr<Optimizer>>;
const Where single{Device::cpu(), DType::f32};
const Where wheres[]{single, {Device::cpu(), DType::bf16}, exact()};

struct Net {
  Linear up{3, 4, normal(0.5)}, down{4, 2, normal(0.5)}, side{3, 2, normal(0.5)};
  void visit(Visitor& part) { part("up", up), part("down", down), part("side", side); }
  Loss loss(const Rows& r, bool with_side = true) const {
    const Var y = down(gelu(up(r.x)));
    return mean_squared_error(with_side ? y + side(r.x) : y, r.y);
  }
};

struct Rule {
  const char* name;
  Optimizers (*make)(const Parameters&);
};
template <class O, class Config>
Optimizers one(const Parameters& p, const Config& config) {
  Optimizers all;
  all.push_back(std::make_unique<O>(p, config));
  return all;
}
const Rule rules[]{
    {"SGD",
     [](const Parameters& p) {
       return one<Sgd>(p, SgdConfig{.lr = 0.1, .momentum = 0.9, .weight_decay = 0.1});
     }},
    {"Adam", [](const Parameters& p) { return one<Adam>(p, AdamConfig{.weight_decay = 0.1}); }},
    {"AdamW in groups",
     [](const Parameters& p) {
       return one<AdamW>(
           p, AdamConfig{.lr = 0.01, .weight_decay = 0.1, .groups = {{"*.bias", 0, 0.5}}});
     }},
    {"AdamW and SGD",
     [](const Parameters& p) {
       Optimizers all = one<AdamW>(decayed(p), AdamConfig{.lr = 0.01});
       all.push_back(std::make_unique<Sgd>(p.except(decayed(p)), SgdConfig{.lr = 0.1}));
       return all;
     }},
};

std::vector<Optimizer*> pointers(const Optimizers& all) {
  std::vector<Optimizer*> result;
  for (const auto& optimizer : all) result.push_back(optimizer.get());
  return result;
}

CycleOptions at_close(const Accumulators& accumulate = {}) {
  return {.accumulate = accumulate, .skip_non_finite = false};
}
CycleOptions backward_of(const Optimizers& all, const Accumulators& accumulate = {}) {
  return {
      .accumulate = accumulate, .consume = in_backward(pointers(all)), .skip_non_finite = false};
}

std::string all_bits(const Parameters& parameters, const Optimizers& optimizers, Cycle& cycle) {
  std::string bits = weight_bits(parameters) + text(cycle.step().value);
  for (const auto& optimizer : optimizers) bits += state_bits(*optimizer);
  return bits;
}

// A Gpt with tied weights and dropout after three cycles, stepped in backward or at close.
std::string trained(Where where, const Rule& rule, int64_t micro, const Accumulators& accumulate,
                    bool backward, Recompute recompute = Recompute::none) {
  GptConfig config = tiny_gpt();
  config.dropout = 0.2;
  config.recompute = recompute;
  Gpt model(config);
  initialize(model, {where.device, where.dtype}, Seed{1});
  const TokenBatch batch = token_batch(config, 6, where.device, 5, {6, 2, 5, 6, 0, 1});
  const Optimizers optimizers = rule.make(parameters(model));
  Cycle cycle(parameters(model),
              backward ? backward_of(optimizers, accumulate) : at_close(accumulate));
  for (int i = 0; i < 3; ++i) {
    const StepReport report =
        step(cycle.run(batch, {.samples = micro}, chunked_loss(model)), pointers(optimizers));
    CHECK(!report.skipped);
    CHECK(std::isnan(report.gradient_norm) == backward);
  }
  return all_bits(parameters(model), optimizers, cycle);
}

// Looks at each sum when it is handed over.
struct Spy final : Consumption {
  std::map<std::string, std::string> seen;
  int calls = 0;
  double divisor = 0;
  std::string_view name() const override { return "spy"; }
  void check(const CycleOptions&, const Parameters&) const override {}
  void consume(GradBuffer& buffer, Step, double count) override {
    ++calls;
    divisor = count;
    seen[buffer.parameter()] = bits_of(buffer.state("sum"));
  }
};

struct Stop : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace

TEST_CASE("stepping in backward has the bits of stepping at close: any K, dropout, tied weights") {
  for (Where where : wheres)
    for (const Rule& rule : rules)
      for (int64_t micro : {6, 3, 2, 4}) {  // K = 1, 2, 3, and 2 ragged
        CAPTURE(text_of(where));
        CAPTURE(rule.name);
        CAPTURE(micro);
        CHECK(trained(where, rule, micro, {}, true) == trained(where, rule, micro, {}, false));
      }
}

TEST_CASE("so it has with every accumulator that cannot overflow") {
  for (const auto& accumulator : accumulators::all()) {
    if (accumulator->may_overflow()) continue;
    CAPTURE(accumulator->name());
    const Accumulators choice{{"*", accumulator}};
    CHECK(trained(single, rules[2], 4, choice, true) ==
          trained(single, rules[2], 4, choice, false));
  }
}

TEST_CASE("so it has where blocks are run again in backward") {
  for (Where where : wheres)
    CHECK(trained(where, rules[2], 4, {}, true, Recompute::block) ==
          trained(where, rules[2], 4, {}, false));
}

TEST_CASE("a sum is handed over once, in the last micro-batch, when it is final") {
  GptConfig config = tiny_gpt();
  Gpt model(config);
  initialize(model, {single.device, single.dtype}, Seed{1});
  const TokenBatch batch = token_batch(config, 7, single.device, 5);
  for (const auto& accumulator : accumulators::all()) {
    if (accumulator->may_overflow()) continue;
    CAPTURE(accumulator->name());
    const auto spy = std::make_shared<Spy>();
    std::vector<int> calls;
    CycleOptions options = at_close({{"*", accumulator}});
    options.consume = spy;
    options.at_edge = [&](MicroStep) { calls.push_back(spy->calls); };
    Cycle cycle(parameters(model), options),
        plain(parameters(model), at_close({{"*", accumulator}}));
    const ClosedCycle closed = cycle.run(batch, {.samples = 3}, chunked_loss(model));
    const auto all = static_cast<int>(parameters(model).size());
    CHECK(calls == std::vector<int>{0, 0, all});
    CHECK(spy->divisor == closed.count());
    const ClosedCycle expected = plain.run(batch, {.samples = 3}, chunked_loss(model));
    for (const GradBuffer* buffer : expected.buffers()) {
      CAPTURE(buffer->parameter());
      CHECK(spy->seen[buffer->parameter()] == bits_of(buffer->state("sum")));
    }
  }
}

TEST_CASE("parameters that the last micro-batch, or the whole cycle, does not touch are stepped") {
  for (const Rule& rule : rules)
    for (int64_t touched : {0, 1}) {  // micro-batches that use `side`
      CAPTURE(rule.name);
      CAPTURE(touched);
      std::string bits[2];
      for (bool backward : {false, true}) {
        Net net;
        initialize(net, {single.device, single.dtype}, Seed{1});
        const Rows batch = random_rows(6, 3, 2, single, 1);
        const Optimizers optimizers = rule.make(parameters(net));
        Cycle cycle(parameters(net), backward ? backward_of(optimizers) : at_close());
        for (int i = 0; i < 3; ++i)
          step(cycle.run(batch, {.samples = 2},
                         [&](const Rows& r) { return net.loss(r, r.indices[0] < 2 * touched); }),
               pointers(optimizers));
        bits[backward] = all_bits(parameters(net), optimizers, cycle);
      }
      CHECK(bits[0] == bits[1]);
    }
}

TEST_CASE("by hand, in the micro-batches of split(), it is the same; else it waits for the close") {
  std::string bits[3];
  for (int how : {0, 1, 2}) {
    Net net;
    initialize(net, {single.device, single.dtype}, Seed{1});
    const Rows batch = random_rows(6, 3, 2, single, 1);
    const Optimizers optimizers = rules[2].make(parameters(net));
    Cycle cycle(parameters(net), how == 0 ? at_close() : backward_of(optimizers));
    const std::vector<Rows> micros = how < 2 ? cycle.split(batch, {.samples = 4})
                                             : std::vector{batch.slice(0, 4), batch.slice(4, 2)};
    const std::string before = weight_bits(parameters(net));
    for (const Rows& micro : micros) {
      MicroScope scope = cycle.begin(micro);
      scope.backward(net.loss(micro));
    }
    CHECK((weight_bits(parameters(net)) != before) == (how == 1));
    step(cycle.close(), pointers(optimizers));
    bits[how] = all_bits(parameters(net), optimizers, cycle);
  }
  CHECK(bits[1] == bits[0]);
  CHECK(bits[2] == bits[0]);
}

TEST_CASE("a cycle in which nothing counts changes nothing, in backward either") {
  const GptConfig config = tiny_gpt();
  Gpt model(config);
  initialize(model, {single.device, single.dtype}, Seed{1});
  const Optimizers optimizers = rules[2].make(parameters(model));
  Cycle cycle(parameters(model), backward_of(optimizers));
  const std::string before = all_bits(parameters(model), optimizers, cycle);
  const TokenBatch padding = token_batch(config, 2, single.device, 1, {0, 0});
  CHECK(
      step(cycle.run(padding, {.samples = 1}, chunked_loss(model)), pointers(optimizers)).skipped);
  CHECK(all_bits(parameters(model), optimizers, cycle) == before);
}

TEST_CASE("stopped at the last edge, when all was consumed, nothing is stepped twice") {
  std::string bits[2];
  for (bool stopped : {false, true}) {
    Net net;
    initialize(net, {single.device, single.dtype}, Seed{1});
    const Rows batch = random_rows(6, 3, 2, single, 1);
    const Optimizers optimizers = rules[2].make(parameters(net));
    CycleOptions options = backward_of(optimizers);
    options.at_edge = [&](MicroStep done) {
      if (stopped && done.value == 3) throw Stop("here");
    };
    const auto loss = [&](const Rows& r) { return net.loss(r); };
    Cycle cycle(parameters(net), options);
    if (stopped) CHECK_THROWS_AS((void)cycle.run(batch, {.samples = 2}, loss), Stop);
    step(cycle.run(batch, {.samples = 2}, loss), pointers(optimizers));
    bits[stopped] = all_bits(parameters(net), optimizers, cycle);
  }
  CHECK(bits[0] == bits[1]);
}

TEST_CASE("frozen parameters stay as they are, and need no optimizer") {
  Net net;
  initialize(net, {single.device, single.dtype}, Seed{1});
  const Parameters side = parameters(net).matching("side.*");
  freeze(side);
  const std::string before = weight_bits(side);
  const Optimizers optimizers = rules[0].make(parameters(net).except(side));
  Cycle cycle(parameters(net), backward_of(optimizers));
  const Rows batch = random_rows(6, 3, 2, single, 1);
  CHECK(!step(cycle.run(batch, {.samples = 2}, [&](const Rows& r) { return net.loss(r); }),
              pointers(optimizers))
             .skipped);
  CHECK(weight_bits(side) == before);
}

TEST_CASE(
    "what cannot go together with stepping in backward is refused, with what to use instead") {
  Net net;
  initialize(net, {single.device, single.dtype}, Seed{1});
  const Parameters all = parameters(net);
  const Optimizers plain = rules[0].make(all);
  const auto refusal = [&](const CycleOptions& options) {
    return message_of<BadArgument>([&] { Cycle(all, options); });
  };
  const auto refused = [&](const CycleOptions& options, std::initializer_list<const char*> words) {
    const std::string message = refusal(options);
    for (const char* word : words) CHECK_MESSAGE(contains(message, word), message);
  };
  CHECK(refusal(backward_of(plain)) == "nothing was thrown");

  CycleOptions options = backward_of(plain);
  options.skip_non_finite = true;
  refused(options, {"skip_non_finite = false", "consume at close"});
  options = backward_of(plain);
  options.loss_scale = std::make_shared<LossScale>();
  refused(options, {"loss scale", "bf16"});
  options = backward_of(plain);
  options.filter = filters::clip(1);
  refused(options, {"filter", "consume at close"});
  refused(backward_of(plain, {{"up.*", accumulators::fixed_point()}}),
          {"fixed_point", "overflow", "consume at close", "f32"});
  refused(backward_of(one<Sgd>(all, SgdConfig{.clip = 1})),
          {"clip by the global norm", "clip = 0"});
  refused(backward_of(rules[0].make(all.matching("up.*"))), {"down.weight", "in none"});
  CHECK(contains(message_of<BadArgument>([] { in_backward({}); }), "at least one optimizer"));

  Sgd first(all), second(all.matching("up.*"));
  CHECK(contains(message_of<BadArgument>([&] { in_backward({&first, &second}); }), "in two"));
}

TEST_CASE("what only the last optimizer refuses is found before the first has stepped") {
  Net net;
  initialize(net, {single.device, single.dtype}, Seed{1});
  const Parameters all = parameters(net), up = all.matching("up.*");
  const AdamConfig right, rate{.lr = -0.1}, counts{.beta2_half_life = 99};
  const auto mean = [&](const Rows& r) { return net.loss(r); };
  const auto share = [&](const Rows& r) { return Loss::share(net.loss(r).sum(), 4); };
  const auto refused = [&](const AdamConfig& first, const AdamConfig& second, const auto& loss,
                           const char* reason) {
    Optimizers optimizers = one<AdamW>(up, first);
    optimizers.push_back(std::make_unique<AdamW>(all.except(up), second));
    Cycle cycle(all, backward_of(optimizers));
    const std::string before = all_bits(all, optimizers, cycle);
    const auto running = [&] {
      (void)cycle.run(random_rows(4, 3, 2, single, 1), {.samples = 2}, loss);
    };
    CHECK(contains(message_of<BadArgument>(running), reason));
    CHECK(all_bits(all, optimizers, cycle) == before);
  };
  // Backward reaches one of them first.
  refused(right, rate, mean, "finite learning rate");
  refused(rate, right, mean, "finite learning rate");
  refused(right, counts, share, "losses with counts");
  refused(counts, right, share, "losses with counts");
}

TEST_CASE("a learning rate that is not finite is refused before a weight has changed") {
  Net net;
  initialize(net, {single.device, single.dtype}, Seed{1});
  const Optimizers optimizers =
      one<Sgd>(parameters(net), SgdConfig{.lr = std::numeric_limits<double>::quiet_NaN()});
  Cycle cycle(parameters(net), backward_of(optimizers));
  const std::string before = weight_bits(parameters(net));
  const Rows batch = random_rows(4, 3, 2, single, 1);
  CHECK_THROWS_AS(
      (void)cycle.run(batch, {.samples = 2}, [&](const Rows& r) { return net.loss(r); }),
      BadArgument);
  CHECK(weight_bits(parameters(net)) == before);
  CHECK_NOTHROW(cycle.discard());
}

}  // namespace accrue::test
