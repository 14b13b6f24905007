// What follows the batch: the learning rate by its rule, Adam's moments by their half-life.
#include "accrue/optim/batch_rules.h"

#include "accrue/optim/batch_schedule.h"
#include "accrue/optim/consumption.h"
#include "saved.h"

namespace accrue::test {
namespace {

struct Point {
  Parameter weight{Shape{3}, zeros()};
  void visit(Visitor& part) { part("weight", weight); }
};

// Weights after cycles of these counts, each with the gradient sum of its number.
struct Walk {
  Point point;
  std::optional<Cycle> cycle;
  std::optional<AdamW> optimizer;
  Numbers path;

  explicit Walk(const AdamWConfig& config) {
    initialize(point, {exact().device, exact().dtype}, Seed{1});
    cycle.emplace(parameters(point));
    optimizer.emplace(parameters(point), config);
  }
  static Numbers gradient(int64_t t) { return random_numbers(3, static_cast<uint64_t>(t) + 5); }
  Walk& go(const std::vector<int64_t>& counts, size_t first = 0) {
    for (size_t t = first; t < counts.size(); ++t) {
      const Tensor sum_of = tensor_of({3}, gradient(static_cast<int64_t>(t)), exact());
      const Rows rows = random_rows(1, 1, 1, exact(), 1);
      optimizer->step(cycle->run(rows, {.samples = 1}, [&](const Rows&) {
        return Loss(sum(point.weight * Var(sum_of)), counts[t]);
      }));
      for (double number : point.weight.master().to_vector()) path.push_back(number);
    }
    return *this;
  }
};

// The same in plain numbers: each step's β and the product of all β so far.
Numbers by_hand(const std::vector<int64_t>& counts, const std::function<double(double)>& beta1,
                const std::function<double(double)>& beta2, double lr) {
  Numbers path, weight(3), mean(3), variance(3);
  double left1 = 1, left2 = 1;
  for (size_t t = 0; t < counts.size(); ++t) {
    const auto n = static_cast<double>(counts[t]);
    const double b1 = beta1(n), b2 = beta2(n);
    left1 *= b1;
    left2 *= b2;
    const Numbers sum = Walk::gradient(static_cast<int64_t>(t));
    for (size_t i = 0; i < 3; ++i) {
      const double g = sum[i] / n;
      mean[i] = b1 * mean[i] + (1 - b1) * g;
      variance[i] = b2 * variance[i] + (1 - b2) * g * g;
      weight[i] -= lr * (mean[i] / (1 - left1)) / (std::sqrt(variance[i] / (1 - left2)) + 1e-8);
      path.push_back(weight[i]);
    }
  }
  return path;
}

constexpr double lr = 0.02;
const std::vector<int64_t> growing{8, 8, 16, 16, 5, 64, 64, 3, 128, 1};
// 1 − β cancels at the smallest count: 1 − β₂ is about 10⁻⁴, so its 10⁴·u; the rest is smaller.
constexpr double tolerance = 1e6 * u_f64;

}  // namespace

TEST_CASE("β₂ of .95 at 512 samples is .95^(1/512) = .99990 at one: the same half-life") {
  CHECK(scaled_beta(0.95, 512, 1) == std::pow(0.95, 1.0 / 512));
  CHECK(scaled_beta(0.95, 512, 1) == doctest::Approx(0.99990).epsilon(1e-6));
  CHECK(scaled_beta(0.95, 512, 512) == 0.95);
  CHECK(half_life(0.95, 512) == doctest::Approx(512 * std::log(0.5) / std::log(0.95)));
  CHECK(half_life(0.5, 7) == doctest::Approx(7).epsilon(4 * u_f64));
  // As an optimizer takes it: 2^(−count/half-life).
  CHECK(std::exp2(-1 / half_life(0.95, 512)) ==
        doctest::Approx(scaled_beta(0.95, 512, 1)).epsilon(4 * u_f64));
}

TEST_CASE("a rate follows the batch by its rule") {
  CHECK(rate_factor(RateRule::none, 4) == 1);
  CHECK(rate_factor(RateRule::linear, 4) == 4);
  CHECK(rate_factor(RateRule::square_root, 4) == 2);
  const BatchTable table = BatchTable::parse("0:8,10:32,20:2");
  const Schedule batch =
      std::function<double(Step)>([&](Step step) { return static_cast<double>(table(step)); });
  const Schedule rate =
      scaled_rate(linear(1, Step{0}, Step{40}, 0), RateRule::square_root, 8, batch);
  CHECK(rate(Step{0}) == 1);
  CHECK(rate(Step{10}) == 0.75 * 2);
  CHECK(rate(Step{20}) == 0.5 * 0.5);
  CHECK(scaled_rate(0.5, RateRule::linear, 8, batch)(Step{10}) == 2);
  CHECK(scaled_rate(0.5, RateRule::none, 8, batch)(Step{10}) == 0.5);
  CHECK_THROWS_AS(scaled_rate(0.5, RateRule::linear, 0, batch), BadArgument);
}

TEST_CASE("with half-lives each step decays by its own count, and the bias by all counts so far") {
  const double h1 = half_life(0.9, 16), h2 = half_life(0.99, 16);
  const auto beta1 = [](double n) { return std::pow(0.9, n / 16); };
  const auto beta2 = [](double n) { return std::pow(0.99, n / 16); };
  const auto fixed1 = [](double) { return 0.9; };
  const auto fixed2 = [](double) { return 0.99; };
  const AdamWConfig base{.lr = lr, .beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8};
  AdamWConfig second = base, both = base;
  second.beta2_half_life = h2;
  both.beta1_half_life = h1;
  both.beta2_half_life = h2;
  const Numbers path = Walk(both).go(growing).path;
  CHECK(relative_error(path, by_hand(growing, beta1, beta2, lr)) <= tolerance);
  CHECK(relative_error(Walk(second).go(growing).path, by_hand(growing, fixed1, beta2, lr)) <=
        tolerance);
  CHECK(relative_error(Walk(base).go(growing).path, by_hand(growing, fixed1, fixed2, lr)) <=
        tolerance);
  CHECK(relative_error(path, by_hand(growing, fixed1, fixed2, lr)) > 1e-2);  // they do differ
  CHECK(relative_error(path, by_hand(growing, fixed1, beta2, lr)) > 1e-2);
}

TEST_CASE("while the count stays, a half-life is that constant β") {
  const std::vector<int64_t> same(20, 512);
  AdamWConfig constant{.lr = lr, .beta2 = 0.95}, halving = constant;
  halving.beta2_half_life = half_life(0.95, 512);
  halving.beta2 = 0;  // not used
  CHECK(relative_error(Walk(halving).go(same).path, Walk(constant).go(same).path) <= tolerance);
}

TEST_CASE("a split of the batch does not change what half-lives see") {
  // Two micro-batches of counts 3 and 5 are one of 8: the decay reads the cycle's count.
  const auto weights = [](const std::vector<int64_t>& counts) {
    Walk walk({.lr = lr, .beta2_half_life = 10});
    const Rows rows = random_rows(static_cast<int64_t>(counts.size()), 1, 1, exact(), 1);
    for (int step = 0; step < 3; ++step) {
      size_t k = 0;
      walk.optimizer->step(walk.cycle->run(rows, {.samples = 1}, [&](const Rows&) {
        const int64_t count = counts[k++];
        const double share = static_cast<double>(count * (step + 1));
        const Tensor part = tensor_of({3}, {share, 2 * share, 3 * share}, exact());
        return Loss(sum(walk.point.weight * Var(part)), count);
      }));
    }
    return walk.point.weight.master().to_vector();
  };
  CHECK(relative_error(weights({3, 5}), weights({8})) <= tolerance);
  CHECK(relative_error(weights({3, 5}), weights({4})) > 1e-6);
}

TEST_CASE("half-lives hold where gradients are consumed in backward or go into the moments") {
  // Batches that declare their count, as those forms need; two micro-batches of unequal counts.
  struct Declared : Rows {
    int64_t total = 0;
    int64_t count() const { return total; }
    Declared slice(int64_t first, int64_t n) const { return {Rows::slice(first, n), total}; }
  };
  enum class Form { at_close, in_backward, into_moments };
  const auto weights = [](Form form, double half_life2, int64_t grow) {
    Walk walk({.lr = lr, .beta1_half_life = 50, .beta2_half_life = half_life2});
    CycleOptions options;
    if (form == Form::in_backward) {
      options.consume = in_backward({&*walk.optimizer});
      options.skip_non_finite = false;
    } else if (form == Form::into_moments) {
      options.accumulate = {{"*", into_moments(*walk.optimizer)}};
      options.skip_non_finite = false;
    }
    Cycle cycle(parameters(walk.point), options);
    for (int64_t step = 0; step < 4; ++step) {
      // All of a cycle's gradient comes in its first micro-batch, so that AdamA is Adam.
      Declared batch{random_rows(2, 1, 1, exact(), 1), 8 + grow * step};
      int64_t k = 0;
      walk.optimizer->step(cycle.run(batch, {.samples = 1}, [&](const Declared&) {
        const bool first = k++ == 0;
        const Tensor part = tensor_of({3}, first ? Walk::gradient(step) : Numbers(3, 0.0), exact());
        return Loss(sum(walk.point.weight * Var(part)), first ? 3 : batch.total - 3);
      }));
    }
    return walk.point.weight.master().to_vector();
  };
  const Numbers at_close = weights(Form::at_close, 100, 7);
  CHECK(weights(Form::in_backward, 100, 7) == at_close);  // to the bit
  CHECK(relative_error(weights(Form::into_moments, 100, 7), at_close) <= tolerance);
  CHECK(relative_error(weights(Form::into_moments, 30, 7), at_close) > 1e-3);
  CHECK(relative_error(weights(Form::into_moments, 100, 0), at_close) > 1e-3);
}

TEST_CASE("a resumed optimizer knows its counts: the bits of an uninterrupted one") {
  const AdamWConfig config{.lr = lr, .beta2_half_life = 40};
  Walk whole(config), first(config), resumed(config);
  whole.go(growing);
  first.go({growing.begin(), growing.begin() + 4});
  Saved(*first.optimizer).into(*resumed.optimizer);
  Saved(*first.cycle).into(*resumed.cycle);
  assign(resumed.point, first.point);
  resumed.go(growing, 4);
  CHECK(weight_bits(parameters(resumed.point)) == weight_bits(parameters(whole.point)));
  CHECK(state_bits(*resumed.optimizer) == state_bits(*whole.optimizer));

  Walk forgetful(config);  // all tensors, but not the counts
  Saved(*first.optimizer).into(*forgetful.optimizer);
  Visitor forget({.integer = [](const std::string&, int64_t& n) { n = 0; }});
  forgetful.optimizer->visit(forget);
  assign(forgetful.point, first.point);
  forgetful.go(growing, 4);
  CHECK(weight_bits(parameters(forgetful.point)) != weight_bits(parameters(whole.point)));
}

TEST_CASE("half-lives and βs that cannot be are refused") {
  Walk walk({});
  const Parameters all = parameters(walk.point);
  CHECK_THROWS_AS(AdamW(all, {.beta2_half_life = -1}), BadArgument);
  CHECK_THROWS_AS(AdamW(all, {.beta1_half_life = NAN}), BadArgument);
  CHECK_THROWS_AS(half_life(1, 8), BadArgument);
  CHECK_THROWS_AS(half_life(0, 8), BadArgument);
  CHECK_THROWS_AS(half_life(0.9, 0), BadArgument);
  CHECK_THROWS_AS(scaled_beta(1, 8, 8), BadArgument);
  CHECK_THROWS_AS(scaled_beta(0.9, 0, 8), BadArgument);
}

}  // namespace accrue::test
