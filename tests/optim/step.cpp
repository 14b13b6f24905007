// One step: the clip, groups and freezing by pattern, several optimizers, schedules by Step.
#include <set>

#include "support.h"

namespace accrue::test {
namespace {

struct Net {
  Linear up{3, 4, normal(0.5)}, down{4, 2, normal(0.5)};
  Var operator()(const Var& x) const { return down(gelu(up(x))); }
  void visit(Visitor& part) { part("up", up), part("down", down); }
};

struct Stage {
  Net net;
  Rows batch = random_rows(6, 3, 2, exact(), 1);
  Cycle cycle;
  Stage()
      : cycle([this] {
          initialize(net, {exact().device, exact().dtype}, Seed{1});
          return parameters(net);
        }()) {}
  Parameters all() const { return parameters(net); }
  ClosedCycle run() {
    return cycle.run(batch, {.samples = 4},
                     [&](const Rows& r) { return mean_squared_error(net(r.x), r.y); });
  }
  Many mean_gradient() {
    const ClosedCycle closed = run();
    Many mean = sums_of(closed);
    for (Numbers& one : mean)
      for (double& number : one) number /= closed.count();
    return mean;
  }
};

double norm_of(const Many& all) {
  double squares = 0;
  for (const Numbers& one : all) squares += std::pow(norm(one), 2);
  return std::sqrt(squares);
}

// after − before, over `by`.
Many change(const Many& after, const Many& before, double by) {
  Many result = after;
  for (size_t i = 0; i < after.size(); ++i)
    for (size_t e = 0; e < after[i].size(); ++e) result[i][e] = (after[i][e] - before[i][e]) / by;
  return result;
}

// An update of 10⁻¹ or so is a difference of weights of about 1, each with an error of u.
constexpr double tolerance = 1e3 * u_f64;

}  // namespace

TEST_CASE("SGD steps along the mean gradient; the report says its norm, loss and rate") {
  Stage s;
  Sgd optimizer(s.all(), {.lr = 0.1});
  const Many gradient = s.mean_gradient(), before = weights_of(s.all());
  const double loss = s.run().mean_loss();
  const StepReport report = optimizer.step(s.run());
  CHECK(relative_error(change(weights_of(s.all()), before, -0.1), gradient) <= tolerance);
  CHECK(report.gradient_norm == doctest::Approx(norm_of(gradient)).epsilon(tolerance));
  CHECK(report.mean_loss == loss);
  CHECK(report.learning_rate == 0.1);
  CHECK(report.step == Step{1});
  CHECK(!report.skipped);
}

TEST_CASE("the clip scales a norm above it to itself, and leaves one below alone") {
  for (double factor : {0.25, 0.999, 1.001, 4.0}) {
    Stage s;
    const Many gradient = s.mean_gradient(), before = weights_of(s.all());
    const double length = norm_of(gradient), clip = factor * length;
    Sgd optimizer(s.all(), {.lr = 0.1, .clip = clip});
    const StepReport report = optimizer.step(s.run());
    CHECK(report.gradient_norm == doctest::Approx(length).epsilon(tolerance));  // before the clip
    const Many moved = change(weights_of(s.all()), before, -0.1);
    CHECK(norm_of(moved) == doctest::Approx(std::min(clip, length)).epsilon(tolerance));
  }
}

TEST_CASE("weight decay is not clipped with the gradient") {
  Stage s;
  const Parameters matrices = decayed(s.all());  // biases are zero at first
  const Many before = weights_of(matrices);
  Sgd optimizer(s.all(), {.lr = 0.1, .weight_decay = 1, .clip = 1e-12});
  optimizer.step(s.run());
  CHECK(relative_error(change(weights_of(matrices), before, -0.1), before) <= 1e-10);
}

TEST_CASE("a rate follows Step, not micro-batches and not skipped cycles") {
  Stage s;
  std::vector<int64_t> asked;
  const Schedule rate = std::function<double(Step)>([&](Step step) {
    asked.push_back(step.value);
    return 0.01;
  });
  Sgd optimizer(s.all(), {.lr = rate});
  optimizer.step(s.run());
  (void)s.run();  // dropped
  const Tensor good = s.batch.y;
  Numbers bad = good.to_vector();
  bad[0] = NAN;
  s.batch.y = tensor_of({6, 2}, bad, exact());
  CHECK(optimizer.step(s.run()).skipped);
  s.batch.y = good;
  optimizer.step(s.run());
  CHECK(std::set<int64_t>(asked.begin(), asked.end()) == std::set<int64_t>{0, 1});
}

TEST_CASE("groups by pattern: the first match wins, the rest have the optimizer's own settings") {
  Stage s, plain;
  Sgd grouped(s.all(), {.lr = 0.1,
                        .weight_decay = 0.5,
                        .groups = {{"*.bias", 0, 1}, {"up.*", 0, 0.5}, {"*.weight", 9, 9}}});
  Many expected = weights_of(s.all());
  const Many gradient = s.mean_gradient();
  const auto& list = s.all().list;
  for (size_t i = 0; i < expected.size(); ++i) {
    const bool bias = matches(list[i]->name, "*.bias"), up = matches(list[i]->name, "up.*");
    const double rate = bias ? 0.1 : up ? 0.05 : 0.9, decay = bias || up ? 0 : 9;
    for (size_t e = 0; e < expected[i].size(); ++e)
      expected[i][e] -= rate * (gradient[i][e] + decay * expected[i][e]);
  }
  grouped.step(s.run());
  CHECK(relative_error(weights_of(s.all()), expected) <= tolerance);
}

TEST_CASE("decayed() names matrices, not biases and norms") {
  Gpt model(tiny_gpt());
  initialize(model, {exact().device, exact().dtype}, Seed{1});
  const Parameters matrices = decayed(parameters(model));
  CHECK(matrices.matching("*.bias").size() == 0);
  CHECK(matrices.matching("*ln_*").size() == 0);
  CHECK(matrices.matching("*.c_fc.weight").size() == 2);
  CHECK(matrices.size() + parameters(model).except(matrices).size() == parameters(model).size());
}

TEST_CASE("a frozen parameter stays bit for bit, decay and momentum included, until it is thawed") {
  Stage s;
  AdamW optimizer(s.all(), {.lr = 0.1, .weight_decay = 0.5});
  optimizer.step(s.run());
  const Parameters up = s.all().matching("up.*"), down = s.all().matching("down.*");
  freeze(up);
  const std::string before = weight_bits(up), state = state_bits(optimizer),
                    moving = weight_bits(down);
  optimizer.step(s.run());
  CHECK(weight_bits(up) == before);
  CHECK(weight_bits(down) != moving);
  unfreeze(up);
  optimizer.step(s.run());
  CHECK(weight_bits(up) != before);
}

TEST_CASE("two optimizers in one step do what each alone would, and Step advances once") {
  Stage both, one;
  const Parameters matrices = decayed(both.all()), rest = both.all().except(matrices);
  AdamW adam(matrices, {.lr = 0.01});
  Sgd sgd(rest, {.lr = 0.1});
  const StepReport report = step(both.run(), adam, sgd);
  CHECK(report.step == Step{1});
  CHECK(report.learning_rate == 0.01);
  CHECK(both.cycle.step() == Step{1});

  AdamW adam_alone(one.all(), {.lr = 0.01});
  adam_alone.step(one.run());
  CHECK(weight_bits(decayed(both.all())) == weight_bits(decayed(one.all())));
  Stage other;
  Sgd sgd_alone(other.all(), {.lr = 0.1});
  sgd_alone.step(other.run());
  CHECK(weight_bits(rest) == weight_bits(other.all().except(decayed(other.all()))));
}

TEST_CASE("the clip of several optimizers is of the norm over all of them") {
  Stage s;
  const Many gradient = s.mean_gradient(), before = weights_of(s.all());
  const double clip = norm_of(gradient) / 8;
  Sgd a(s.all().matching("up.*"), {.lr = 0.1, .clip = clip}),
      b(s.all().matching("down.*"), {.lr = 0.1, .clip = clip});
  step(s.run(), a, b);
  CHECK(relative_error(change(weights_of(s.all()), before, -0.1 / 8), gradient) <= tolerance);
}

TEST_CASE("optimizers must share out the cycle's parameters; what is refused changes nothing") {
  Stage s;
  const std::string before = weight_bits(s.all());
  Sgd up(s.all().matching("up.*")), all(s.all()), clipped(s.all().matching("down.*"), {.clip = 1});
  CHECK(contains(message_of<BadArgument>([&] { step(s.run(), up); }), "down."));
  CHECK(contains(message_of<BadArgument>([&] { step(s.run(), up, all); }), "in two"));
  CHECK(contains(message_of<BadArgument>([&] { step(s.run(), up, clipped); }), "one clip"));
  CHECK(contains(message_of<BadArgument>([&] { step(s.run(), std::span<Optimizer* const>()); }),
                 "optimizer"));
  Net other;
  initialize(other, {exact().device, exact().dtype}, Seed{2});
  Sgd stranger(parameters(other));
  CHECK(contains(message_of<BadArgument>([&] { step(s.run(), all, stranger); }), "not"));
  CHECK(weight_bits(s.all()) == before);
  CHECK(s.cycle.step() == Step{0});
  for (double rate : {-1e-3, double(INFINITY), double(NAN)}) {
    Sgd wrong(s.all(), {.lr = rate});
    CHECK(contains(message_of<BadArgument>([&] { wrong.step(s.run()); }), "finite learning rate"));
  }
  CHECK(weight_bits(s.all()) == before);
  CHECK(!all.step(s.run()).skipped);  // each refused cycle was discarded
}

TEST_CASE("frozen parameters need no optimizer, and may have one") {
  Stage s;
  const Parameters up = s.all().matching("up.*");
  freeze(up);
  Sgd down(s.all().matching("down.*"));
  CHECK(!down.step(s.run()).skipped);
  Cycle smaller(s.all().matching("down.*"));
  Sgd all(s.all());
  CHECK(!all.step(smaller.run(s.batch, {.samples = 4},
                              [&](const Rows& r) { return mean_squared_error(s.net(r.x), r.y); }))
             .skipped);
}

TEST_CASE("settings that cannot be are refused") {
  Stage s;
  CHECK_THROWS_AS(Sgd(s.all(), {.momentum = 1}), BadArgument);
  CHECK_THROWS_AS(Sgd(s.all(), {.nesterov = true}), BadArgument);
  CHECK_THROWS_AS(Sgd(s.all(), {.clip = -1}), BadArgument);
  CHECK_THROWS_AS(Adam(s.all(), {.beta1 = 1}), BadArgument);
  CHECK_THROWS_AS(Adam(s.all(), {.beta2 = -0.1}), BadArgument);
  CHECK_THROWS_AS(AdamW(s.all(), {.epsilon = -1}), BadArgument);
  CHECK_THROWS_AS(AdamW(Parameters{}), BadArgument);
  CHECK_THROWS_AS(AdamW(s.all(), {.weight_decay = -0.1}), BadArgument);
  CHECK_THROWS_AS(Sgd(s.all(), {.groups = {{"up.*", 0, -1}}}), BadArgument);
  CHECK_THROWS_AS(Sgd(s.all(), {.groups = {{"up.*", 0, NAN}}}), BadArgument);
  CHECK_THROWS_AS(Sgd(s.all(), {.groups = {{"up.*", INFINITY, 1}}}), BadArgument);
  Net raw;
  CHECK_THROWS_AS(Sgd(parameters(raw), {.momentum = 0.9}), BadOrder);
}

}  // namespace accrue::test
