// Choices that together would write wrong numbers in silence: each is refused in time, or right.
#include <map>

#include "feed.h"

namespace accrue::test {
namespace {

const Where single{Device::cpu(), DType::f32};

/// Rows that declare their number.
struct Counted : Rows {
  explicit Counted(const Rows& rows) : Rows(rows) {}
  int64_t count() const { return static_cast<int64_t>(indices.size()); }
  Counted slice(int64_t first, int64_t n) const { return Counted(Rows::slice(first, n)); }
};

struct Stand {
  Dot model;
  Counted batch{random_rows(6, 64, 1, single, 1)};
  Stand() { initialize(model, {single.device, single.dtype}, Seed{1}); }
  Parameters all() const { return parameters(model); }
  Loss counted(const Rows& micro) const { return model.loss(micro); }
  Loss share(const Rows& micro) const { return Loss::share(model.loss(micro).sum(), 6); }
  std::string bits() const { return weight_bits(all()); }
};

void check_words(const std::string& message, std::initializer_list<const char*> words) {
  for (const char* word : words) CHECK_MESSAGE(contains(message, word), message);
}

/// x, and yet the whole cycle must have come so far.
struct Gate {
  void gather(const Tensor&) const {}
  void gather_backward(const Saved&, const Tensor&) const {}
  Tensor forward(Saved&, const Tensor& x) const { return x; }
  void backward(const Saved&, const Tensor& dy, Edge dx) const { dx.pass(dy); }
};
static_assert(NeedsCycle<Gate> && Operation<Gate, Var>);

template <class B, class F>
void deposit(Cycle& cycle, const B& micro, const F& loss) {
  MicroScope scope = cycle.begin(micro);
  scope.backward(loss(micro));
}

}  // namespace

TEST_CASE("stochastic rounding draws anew for each addition, also under cycle operations") {
  const Stand s;
  constexpr int64_t k = 512;
  Rows ones = random_rows(k, 64, 1, single, 1);
  ones.x = tensor_of({k, 64}, Numbers(k * 64, 1), single);
  for (bool gated : {false, true}) {
    CAPTURE(gated);
    Cycle cycle(s.all(), {.accumulate = accumulators::parse("bf16_stochastic")});
    const ClosedCycle closed = cycle.run(ones, {.samples = 1}, [&](const Rows& micro) {
      const Var y = matmul(micro.x, s.model.weight);
      return Loss(sum(gated ? record("gate", Gate{}, y) : y), 1);
    });
    double squares = 0;
    const Many sums = sums_of(closed);
    for (double one : sums[0]) squares += (one / k - 1) * (one / k - 1) / 64;
    // A rounding's variance is at most ulp²/4 with ulp ≤ 2⁻⁷ of the sum; K of them, were they all
    // as large as the last. The variance over 64 weights is known to √(2/64): five of its
    // deviations. The same draws for every addition: 0.6.
    CHECK(squares <= k * 0x1p-16 * (1 + 5 * std::sqrt(2.0 / 64)));
  }
}

TEST_CASE("a filter that may drop goes neither with totals declared beforehand nor with shares") {
  const Stand s;
  AdamW adam(s.all());
  for (const auto& filter : {filters::drop_non_finite(), filters::clip(1)}) {
    const CycleOptions options{
        .accumulate = {{"*", into_moments(adam)}}, .filter = filter, .skip_non_finite = false};
    const std::string message = message_of<BadArgument>([&] { Cycle(s.all(), options); });
    if (filter->may_drop())
      check_words(message, {"drop-non-finite", "adam_a", "clip", "f32"});
    else
      CHECK(message == "nothing was thrown");
  }
  for (const auto& filter : {filters::agreement(1), filters::observe()}) {
    Cycle cycle(s.all(), {.filter = filter});
    const std::string message = message_of<BadArgument>([&] {
      (void)cycle.run(s.batch, {.samples = 2}, [&](const Rows& m) { return s.share(m); });
    });
    if (filter->may_drop())
      check_words(message, {"agreement", "share", "count"});
    else
      CHECK(message == "nothing was thrown");
  }
}

TEST_CASE("steps in backward are refused with a noise scale, loss scales without skipping") {
  const Stand s;
  Sgd sgd(s.all());
  CycleOptions options{.consume = in_backward({&sgd}), .skip_non_finite = false};
  options.noise_scale = true;
  check_words(message_of<BadArgument>([&] { Cycle(s.all(), options); }),
              {"noise scale", "consume at close"});
  check_words(message_of<BadArgument>([&] {
                Cycle(s.all(),
                      {.loss_scale = std::make_shared<LossScale>(), .skip_non_finite = false});
              }),
              {"loss scale", "skip_non_finite = true"});
}

TEST_CASE("after steps in backward there is no further micro-batch") {
  const Stand s;
  Sgd sgd(s.all());
  Cycle cycle(s.all(), {.consume = in_backward({&sgd}), .skip_non_finite = false});
  const auto loss = [&](const Rows& micro) { return s.counted(micro); };
  for (const Counted& micro : cycle.split(s.batch, {.samples = 3})) deposit(cycle, micro, loss);
  const std::string stepped = s.bits();
  check_words(message_of<BadOrder>([&] { deposit(cycle, s.batch, loss); }),
              {"weight", "stepped in its backward"});
  CHECK(s.bits() == stepped);
}

TEST_CASE(
    "a cycle that is closed early is divided by what was counted, not by the declared total") {
  const Stand early, alone;
  Sgd a(early.all(), {.lr = 1}), b(alone.all(), {.lr = 1});
  Cycle cycle(early.all()), other(alone.all());
  const auto loss = [&](const Rows& micro) { return early.counted(micro); };
  const auto micros = cycle.split(early.batch, {.samples = 2});
  for (size_t k = 0; k < 2; ++k) deposit(cycle, micros[k], loss);
  const StepReport report = a.step(cycle.close());
  CHECK(report.count == 4);
  b.step(other.run(alone.batch.slice(0, 4), {.samples = 2},
                   [&](const Rows& micro) { return alone.counted(micro); }));
  CHECK(early.bits() == alone.bits());
}

TEST_CASE("a wrong declared total is still found where the batch is whole") {
  const Stand s;
  Sgd sgd(s.all());
  Cycle cycle(s.all());
  ClosedCycle closed = cycle.run(
      s.batch, {.samples = 2}, [&](const Rows& micro) { return Loss(s.counted(micro).sum(), 3); });
  check_words(message_of<BadArgument>([&] { sgd.step(std::move(closed)); }), {"6", "9"});
}

TEST_CASE("in split and ranks every micro-batch by hand must be the next granule") {
  const Stand s;
  const auto loss = [&](const Rows& micro) { return s.counted(micro); };
  for (Reproducible tier : {Reproducible::split, Reproducible::ranks}) {
    Cycle cycle(s.all(), {.reproducible = tier, .granule = 4});
    const auto granules = cycle.split(s.batch, {.samples = 1});
    check_words(message_of<BadArgument>([&] { (void)cycle.begin(s.batch.slice(0, 3)); }),
                {"granule of 4", "got 3"});
    deposit(cycle, granules[0], loss);
    check_words(message_of<BadArgument>([&] { (void)cycle.begin(s.batch.slice(0, 4)); }),
                {"granule of 2", "got 4"});
    CHECK_NOTHROW(deposit(cycle, granules[1], loss));
    CHECK(cycle.close().count() == 6);
  }
}

TEST_CASE("a cycle under way is not resumed with other choices; between cycles they are free") {
  const Stand s;
  Sgd sgd(s.all());
  const CycleOptions choices[]{{},
                               {.filter = filters::observe()},
                               {.filter = filters::clip(1)},
                               {.filter = filters::clip(2)},
                               {.reproducible = Reproducible::split},
                               {.reproducible = Reproducible::split, .granule = 2}};
  const auto loss = [&](const Rows& micro) { return s.counted(micro); };
  for (bool under_way : {false, true})
    for (size_t from = 0; from < std::size(choices); ++from)
      for (size_t to = 0; to < std::size(choices); ++to) {
        CAPTURE(from);
        CAPTURE(to);
        Cycle saved(s.all(), choices[from]), loaded(s.all(), choices[to]);
        const auto micros = saved.split(s.batch, {.samples = choices[from].granule});
        if (under_way) deposit(saved, micros[0], loss);
        std::map<std::string, std::string> texts, tensors;
        std::map<std::string, int64_t> integers;
        Visitor save(
            {.tensor = [&](const std::string& name, Tensor& t) { tensors[name] = bits_of(t); },
             .integer = [&](const std::string& name, int64_t& n) { integers[name] = n; },
             .text = [&](const std::string& name, std::string& t) { texts[name] = t; }});
        saved.visit(save);
        Visitor load(
            {.tensor =
                 [&](const std::string& name, Tensor& t) {
                   std::memcpy(t.out().data, tensors.at(name).data(), t.bytes());
                 },
             .integer = [&](const std::string& name, int64_t& n) { n = integers.at(name); },
             .text = [&](const std::string& name, std::string& t) { t = texts.at(name); }});
        const std::string message = message_of<BadArgument>([&] { loaded.visit(load); });
        if (under_way && from != to)
          check_words(message, {"reproducible", "granule", "filter"});
        else
          CHECK(message == "nothing was thrown");
      }
}

TEST_CASE("a pattern that decides nothing is refused") {
  const Stand s;
  check_words(message_of<BadArgument>([&] {
                Cycle(s.all(), {.accumulate = accumulators::parse("bf16:*,kahan:weight")});
              }),
              {"kahan:weight", "earlier patterns"});
  struct Stack {
    std::vector<Linear> h;
    Stack() {
      for (int i = 0; i < 11; ++i) h.emplace_back(1, 1);
    }
    void visit(Visitor& part) { part("h", h); }
  } stack;
  initialize(stack, {single.device, single.dtype}, Seed{1});
  const std::string message = message_of<BadArgument>(
      [&] { Cycle(parameters(stack), {.accumulate = accumulators::parse("kahan:norm")}); });
  CHECK_MESSAGE(message.ends_with("got norm; names are such as h.0.weight and h.10.bias; try *"),
                message);
  CHECK_NOTHROW(Cycle(s.all(), {.accumulate = accumulators::parse("kahan:weight")}));
}

TEST_CASE("kahan:*.norm.*,bf16:* gives every norm a Kahan sum, and all others bf16") {
  struct Layer {
    Linear linear{4, 4};
    LayerNorm norm{4};
    void visit(Visitor& part) {
      part("linear", linear);
      part("norm", norm);
    }
  };
  struct Net {
    std::vector<Layer> h;
    Net() { h.resize(2); }
    void visit(Visitor& part) { part("h", h); }
  } net;
  initialize(net, {single.device, single.dtype}, Seed{1});
  Cycle cycle(parameters(net), {.accumulate = accumulators::parse("kahan:*.norm.*,bf16:*")});
  const Rows rows = random_rows(3, 4, 1, single, 1);
  const ClosedCycle closed = cycle.run(rows, {.samples = 1}, [&](const Rows& micro) {
    Var x = micro.x;
    for (const Layer& layer : net.h) x = layer.norm(layer.linear(x));
    return Loss(sum(x * x), 1);
  });
  CHECK(closed.buffers().size() == 8);
  for (const GradBuffer* one : closed.buffers()) {
    CAPTURE(one->parameter());
    CHECK(one->touched());
    CHECK(one->accumulator().name() == (contains(one->parameter(), ".norm.") ? "kahan" : "bf16"));
  }
}

TEST_CASE("loss scales that could only go wrong are refused") {
  for (const LossScaleConfig& config :
       {LossScaleConfig{.initial = 0.25}, LossScaleConfig{.growth = INFINITY},
        LossScaleConfig{.initial = NAN}, LossScaleConfig{.smallest = 0},
        LossScaleConfig{.backoff = 2}, LossScaleConfig{.growth_interval = 0}})
    CHECK_THROWS_AS(LossScale{config}, BadArgument);
  CHECK_NOTHROW(LossScale({.initial = 0.25, .smallest = 0.25}));
}

TEST_CASE("half-lives in counts are refused with shares, before a weight or moment has changed") {
  const AdamWConfig half_lives{.beta2_half_life = 100};
  const auto refused = [](const Stand& s, AdamW& adam, const CycleOptions& options) {
    const std::string before = s.bits() + state_bits(adam);
    Cycle cycle(s.all(), options);
    const std::string message = message_of<BadArgument>([&] {
      adam.step(cycle.run(s.batch, {.samples = 2}, [&](const Rows& m) { return s.share(m); }));
    });
    check_words(message, {"half-lives", "shares"});
    CHECK(s.bits() + state_bits(adam) == before);
  };
  const Stand s;
  AdamW adam(s.all(), half_lives);
  refused(s, adam, {});
  refused(s, adam, {.consume = in_backward({&adam}), .skip_non_finite = false});
  AdamW folded(s.all(), half_lives);
  refused(s, folded, {.accumulate = {{"*", into_moments(folded)}}, .skip_non_finite = false});
}

}  // namespace accrue::test
