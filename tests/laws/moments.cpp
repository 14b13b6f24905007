// Gradients that go into Adam's moments one by one: AdamA (exponent 0) and batch-size-invariant
// Adam (exponent 1), against Adam. Long: both are held to the formulae of one reference here.
#include "support.h"

namespace accrue::test {
namespace {

const Where single{Device::cpu(), DType::f32};
const Where wheres[]{single, {Device::cpu(), DType::bf16}, exact()};
constexpr double law = 1e-12;  // in f64

CycleOptions into(Adam& adam, double exponent = 0) {
  return {.accumulate = {{"*", into_moments(adam, exponent)}}, .skip_non_finite = false};
}

// Mean and variance of every parameter, by the names an optimizer saves them under.
struct Moments {
  Many mean, variance;
  explicit Moments(Optimizer& optimizer) {
    Visitor visitor({.tensor = [&](const std::string& name, Tensor& t) {
      (name.starts_with("mean.") ? mean : variance).push_back(t.to_vector());
    }});
    optimizer.visit(visitor);
  }
};

struct Stage {
  Gpt model;
  TokenBatch batch;
  explicit Stage(Where where, double dropout = 0.2)
      : model(config(dropout)),
        batch(token_batch(config(dropout), 6, where.device, 5, {6, 2, 5, 6, 0, 1})) {
    initialize(model, {where.device, where.dtype}, Seed{1});
  }
  static GptConfig config(double dropout) {
    GptConfig config = tiny_gpt();
    config.dropout = dropout;
    return config;
  }
  StepReport step(Cycle& cycle, Optimizer& optimizer, int64_t micro) const {
    return optimizer.step(cycle.run(batch, {.samples = micro}, chunked_loss(model)));
  }
};

// Loss Σ x·w as a share of `total`: the micro-gradient of weight i is the sum of x's column i.
struct Dot {
  Parameter weight;
  explicit Dot(int64_t weights) : weight(Shape{weights, 1}, zeros()) {}
  void visit(Visitor& part) { part("weight", weight); }
  Loss loss(const Rows& rows, int64_t total) const {
    return Loss::share(sum(matmul(rows.x, weight)), total);
  }
};

// What K micro-gradients (rows of x) of mean g/K add to the variances, over 1 − β₂.
Numbers increments(const Tensor& x, int how) {
  const int64_t k = x.shape()[0];
  Dot model(x.shape()[1]);
  initialize(model, {x.device(), x.dtype()}, Seed{1});
  Rows batch{x, x, {}};
  batch.indices.resize(k);
  std::iota(batch.indices.begin(), batch.indices.end(), int64_t{0});
  Adam adam(parameters(model), {.beta2 = 0.5});  // 1 − β₂ is exact
  Cycle cycle(parameters(model), how < 0 ? CycleOptions{} : into(adam, how));
  adam.step(cycle.run(batch, {.samples = 1}, [&](const Rows& r) { return model.loss(r, k); }));
  Numbers result = Moments(adam).variance[0];
  for (double& one : result) one *= 2;
  return result;
}

double mean_of(const Numbers& numbers) {
  return std::accumulate(numbers.begin(), numbers.end(), 0.0) / static_cast<double>(numbers.size());
}

int64_t peak_gradients() { return host_allocator().use().peak[static_cast<int>(Tag::gradients)]; }

}  // namespace

TEST_CASE("with one micro-batch both have the bits of Adam, of AdamW") {
  for (Where where : wheres)
    for (double exponent : {0.0, 1.0})
      for (bool decoupled : {false, true}) {
        CAPTURE(text_of(where));
        CAPTURE(exponent);
        const auto run = [&](bool folded) {
          const Stage s(where);
          const Parameters all = parameters(s.model);
          std::unique_ptr<Adam> adam;
          if (decoupled)
            adam = std::make_unique<AdamW>(all, AdamConfig{.lr = 0.01, .weight_decay = 0.1});
          else
            adam = std::make_unique<Adam>(all, AdamConfig{.lr = 0.01});
          Cycle cycle(all, folded ? into(*adam, exponent) : CycleOptions{});
          for (int i = 0; i < 3; ++i) {
            CHECK(!s.step(cycle, *adam, 6).skipped);
            CHECK(cycle.step() == Step{i + 1});
          }
          std::string bits = weight_bits(all);
          const Moments moments(*adam);
          for (const Many* many : {&moments.mean, &moments.variance})
            for (const Numbers& numbers : *many)
              bits.append(reinterpret_cast<const char*>(numbers.data()), numbers.size() * 8);
          return bits;
        };
        CHECK(run(true) == run(false));
      }
}

TEST_CASE("for any K the means are Adam's, and the variances are not") {
  for (double exponent : {0.0, 1.0})
    for (int64_t micro : {3, 2, 1, 4}) {
      CAPTURE(exponent);
      CAPTURE(micro);
      const Stage a(exact()), b(exact());
      Adam adam(parameters(a.model)), folded(parameters(b.model));
      Cycle whole(parameters(a.model)), cycle(parameters(b.model), into(folded, exponent));
      a.step(whole, adam, micro);
      b.step(cycle, folded, micro);
      CHECK(relative_error(Moments(folded).mean, Moments(adam).mean) <= law);
      CHECK(relative_error(Moments(folded).variance, Moments(adam).variance) > 0.01);
      // Cauchy–Schwarz: Σĝ² ≥ (Σĝ)²/K, for each weight; K times that with exponent 1.
      const auto k = static_cast<double>((6 + micro - 1) / micro);
      const Many low = Moments(adam).variance, high = Moments(folded).variance;
      const double share = exponent == 0 ? k : 1;
      for (size_t i = 0; i < low.size(); ++i)
        for (size_t e = 0; e < low[i].size(); ++e)
          CHECK(high[i][e] * share >= low[i][e] * (1 - law) - 1e-300);
    }
}

TEST_CASE("in f32 the means are Adam's up to K + 1 roundings of what was added") {
  const Tensor x = random_tensor({8, 64}, single, 1);
  for (int64_t k : {2, 8}) {
    Dot a(64), b(64);
    initialize(a, {single.device, single.dtype}, Seed{1});
    initialize(b, {single.device, single.dtype}, Seed{1});
    Rows batch{x.slice(0, k), x, std::vector<int64_t>(k)};
    std::iota(batch.indices.begin(), batch.indices.end(), int64_t{0});
    Adam adam(parameters(a)), folded(parameters(b));
    Cycle whole(parameters(a)), cycle(parameters(b), into(folded));
    adam.step(whole.run(batch, {.samples = 1}, [&](const Rows& r) { return a.loss(r, k); }));
    folded.step(cycle.run(batch, {.samples = 1}, [&](const Rows& r) { return b.loss(r, k); }));
    const Numbers one = Moments(adam).mean[0], other = Moments(folded).mean[0];
    const Numbers numbers = batch.x.to_vector();
    for (int64_t w = 0; w < 64; ++w) {
      double absolute = 0;
      for (int64_t i = 0; i < k; ++i) absolute += std::abs(numbers[i * 64 + w]) / k;
      // Each side: K additions, the gain, the share.
      CHECK(std::abs(one[w] - other[w]) <=
            2 * static_cast<double>(k + 2) * u_f32 * (1 - 0.9) * absolute);
    }
  }
}

TEST_CASE("identical micro-gradients: AdamA adds a K-th of what Adam adds to the variance") {
  for (int64_t k : {1, 2, 4, 8}) {
    Numbers rows;
    const Numbers row = random_numbers(32, 3);
    for (int64_t i = 0; i < k; ++i) rows.insert(rows.end(), row.begin(), row.end());
    const Tensor x = tensor_of({k, 32}, rows, exact());
    const Numbers adam = increments(x, -1), folded = increments(x, 0), invariant = increments(x, 1);
    for (int64_t w = 0; w < 32; ++w) {
      CHECK(std::abs(folded[w] * static_cast<double>(k) / adam[w] - 1) <= law);
      CHECK(std::abs(invariant[w] / adam[w] - 1) <= law);
    }
  }
}

TEST_CASE(
    "mean 1, deviation 1/2, K = 8: 1.031 for Adam, 0.156 for AdamA, 1.250 for the invariant") {
  // All 256 patterns of eight gradients 1 ± 1/2, one for each weight: the expectation itself.
  // Every number is a sum of few powers of two, so the results are exact.
  Numbers patterns(8 * 256);
  for (int64_t k = 0; k < 8; ++k)
    for (int64_t w = 0; w < 256; ++w) patterns[k * 256 + w] = w >> k & 1 ? 1.5 : 0.5;
  for (Where where : {exact(), single}) {
    const Tensor x = tensor_of({8, 256}, patterns, where);
    CHECK(mean_of(increments(x, -1)) == 1.03125);
    CHECK(mean_of(increments(x, 0)) == 0.15625);
    CHECK(mean_of(increments(x, 1)) == 1.25);
  }
  // Normal gradients for 4,096 weights, within five deviations of the mean. Deviation of one
  // weight's increment: Adam's is a squared N(1, 1/32): √(4/32 + 2/32²) = 0.356; the others' sums
  // of eight squared N(1, 1/4), of variance 4/4 + 2/16 = 1.125 each: √(8·1.125)/64 = 0.0469, or
  // eight times that.
  constexpr int64_t weights = 4096;
  std::mt19937_64 bits(1);
  std::normal_distribution<double> spread(1, 0.5);
  Numbers numbers(8 * weights);
  for (double& one : numbers) one = spread(bits);
  const Tensor x = tensor_of({8, weights}, numbers, exact());
  const double five = 5 / std::sqrt(static_cast<double>(weights));
  CHECK(std::abs(mean_of(increments(x, -1)) - 1.03125) <= five * 0.356);
  CHECK(std::abs(mean_of(increments(x, 0)) - 0.15625) <= five * 0.0469);
  CHECK(std::abs(mean_of(increments(x, 1)) - 1.25) <= five * 8 * 0.0469);
}

TEST_CASE("gradients take the memory of one parameter instead of all") {
  struct Deep {
    std::vector<Linear> layers;
    Deep() {
      for (int i = 0; i < 6; ++i) layers.emplace_back(32, 32, normal(0.3));
    }
    void visit(Visitor& part) { part("layers", layers); }
    Loss loss(const Rows& rows) const {
      Var y = rows.x;
      for (const Linear& layer : layers) y = tanh(matmul(y, layer.weight));
      return Loss::share(mean_squared_error(y, rows.y).sum(), 4 * 32);
    }
  };
  const auto peak = [](bool folded) {
    Deep net;
    initialize(net, {single.device, single.dtype}, Seed{1});
    const Rows batch = random_rows(4, 32, 32, single, 1);
    AdamW adam(parameters(net).matching("*.weight"));
    const int64_t before = host_allocator().use().current[static_cast<int>(Tag::gradients)];
    host_allocator().reset_peak();
    Cycle cycle(parameters(net).matching("*.weight"), folded ? into(adam) : CycleOptions{});
    adam.step(cycle.run(batch, {.samples = 2}, [&](const Rows& r) { return net.loss(r); }));
    return peak_gradients() - before - 16 - 512 - 4;  // totals, records, the loss's own gradient
  };
  CHECK(peak(false) == 6 * 32 * 32 * 4);
  CHECK(peak(true) == 32 * 32 * 4);
}

TEST_CASE("a parameter that the cycle does not touch has its moments decayed once, as by Adam") {
  for (double exponent : {0.0, 1.0}) {
    struct Two {
      Dot used{8}, idle{8};
      void visit(Visitor& part) { part("used", used), part("idle", idle); }
    };
    std::string bits[2];
    for (bool folded : {false, true}) {
      Two net;
      initialize(net, {exact().device, exact().dtype}, Seed{1});
      Adam adam(parameters(net));
      Cycle cycle(parameters(net), folded ? into(adam, exponent) : CycleOptions{});
      const Rows batch = random_rows(1, 8, 1, exact(), 1);
      for (bool both : {true, false, true})
        adam.step(cycle.run(batch, {.samples = 1}, [&](const Rows& r) {
          const Loss one = net.used.loss(r, 1);
          return both ? one + net.idle.loss(r, 1) : one;
        }));
      const Moments moments(adam);
      bits[folded] = weight_bits(parameters(net));
      for (double one : moments.variance[1]) bits[folded] += text(one, ' ');
    }
    CHECK(bits[0] == bits[1]);
  }
}

TEST_CASE("stepping in backward as well gives the bits of stepping at close") {
  for (Where where : wheres)
    for (int64_t micro : {6, 2, 4}) {
      std::string bits[2];
      for (bool backward : {false, true}) {
        const Stage s(where);
        AdamW adam(parameters(s.model), {.lr = 0.01, .weight_decay = 0.1});
        CycleOptions options = into(adam, 1);
        if (backward) options.consume = in_backward({&adam});
        Cycle cycle(parameters(s.model), options);
        for (int i = 0; i < 3; ++i) CHECK(!s.step(cycle, adam, micro).skipped);
        bits[backward] = weight_bits(parameters(s.model)) + state_bits(adam);
      }
      CHECK(bits[0] == bits[1]);
    }
}

TEST_CASE("a cycle in which nothing counts leaves weights, moments and Step alone") {
  Stage s(single);
  AdamW adam(parameters(s.model), {.lr = 0.01});
  Cycle cycle(parameters(s.model), into(adam));
  s.step(cycle, adam, 2);
  const std::string weights = weight_bits(parameters(s.model));
  const Moments before(adam);
  const TokenBatch padding = token_batch(s.model.config, 2, single.device, 1, {0, 0});
  CHECK(adam.step(cycle.run(padding, {.samples = 1}, chunked_loss(s.model))).skipped);
  CHECK(weight_bits(parameters(s.model)) == weights);
  CHECK(Moments(adam).mean == before.mean);
  CHECK(Moments(adam).variance == before.variance);
  CHECK(cycle.step() == Step{1});
}

TEST_CASE("what cannot go into moments is refused, with what to use instead") {
  Stage s(single);
  const Parameters all = parameters(s.model);
  AdamW adam(all);
  const auto refused = [&](const CycleOptions& options, std::initializer_list<const char*> words) {
    const std::string message = message_of<BadArgument>([&] { Cycle(all, options); });
    for (const char* word : words) CHECK_MESSAGE(contains(message, word), message);
  };
  CycleOptions options = into(adam);
  options.skip_non_finite = true;
  refused(options, {"adam_a", "skip_non_finite = false", "f32"});
  options = into(adam);
  options.loss_scale = std::make_shared<LossScale>();
  refused(options, {"loss scale", "bf16"});
  options = into(adam);
  options.filter = filters::observe();  // needs no sums
  CHECK_NOTHROW(Cycle(all, options));
  options = into(adam);
  options.filter = filters::agreement(1);
  refused(options, {"agreement", "sums so far"});
  options = into(adam);
  options.noise_scale = true;
  refused(options, {"noise scale"});
  options = into(adam);
  options.reproducible = Reproducible::ranks;
  refused(options, {"ranks", "adam_a", "tree or fixed_point"});
  options = into(adam);
  options.accumulate.insert(options.accumulate.begin(), {"*.bias", accumulators::fixed_point()});
  refused(options, {"fixed_point", "adam_a", "run again", "f32"});
  AdamW part(all.matching("*.bias"));
  refused(into(part), {"wte.weight", "optimizer"});

  AdamW clipped(all, {.clip = 1});
  CHECK(
      contains(message_of<BadArgument>([&] { into_moments(clipped); }), "clip by the global norm"));
  Adam coupled(all, {.weight_decay = 0.1});
  CHECK(contains(message_of<BadArgument>([&] { into_moments(coupled); }), "use AdamW"));
}

TEST_CASE("totals and numbers of micro-batches that are not known beforehand are refused in time") {
  Dot model(4);
  initialize(model, {single.device, single.dtype}, Seed{1});
  const Rows batch = random_rows(4, 4, 1, single, 1);
  Adam adam(parameters(model));
  const std::string before = state_bits(adam);
  const auto counted = [&](const Rows& r) {
    return Loss(sum(matmul(r.x, model.weight)), r.x.shape()[0]);
  };
  Cycle no_total(parameters(model), into(adam));
  CHECK(
      contains(message_of<BadArgument>([&] { (void)no_total.run(batch, {.samples = 2}, counted); }),
               "count()"));
  Cycle no_number(parameters(model), into(adam, 1));
  CHECK(contains(message_of<BadArgument>([&] {
                   MicroScope scope = no_number.begin(batch);
                   scope.backward(model.loss(batch, 4));
                 }),
                 "Cycle::split"));
  const Moments moments(adam);
  for (double one : moments.mean[0]) CHECK(one == 0);
}

TEST_CASE("clipping each micro-batch goes together with moments") {
  const Stage a(exact()), b(exact());
  Adam adam(parameters(a.model)), folded(parameters(b.model));
  CycleOptions options = into(folded);
  options.filter = filters::clip(0.5);
  Cycle whole(parameters(a.model), {.filter = filters::clip(0.5)}),
      cycle(parameters(b.model), options);
  a.step(whole, adam, 2);
  b.step(cycle, folded, 2);
  CHECK(relative_error(Moments(folded).mean, Moments(adam).mean) <= law);
}

}  // namespace accrue::test
