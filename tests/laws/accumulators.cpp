// Law 1, generated from declarations: every layer × optimizer × accumulator, in any split, equals
// one batch within what the accumulator declares; accumulators that declare falsely are caught.
#include "laws/outside.h"
#include "nets.h"

namespace accrue::test {
namespace {

using Sizes = std::vector<int64_t>;
using Chosen = std::shared_ptr<const Accumulator>;
const std::vector<Sizes> splits{{8}, {4, 4}, {1, 7}, {3, 1, 4}, {1, 1, 1, 1, 1, 1, 1, 1}};
const Where single{Device::cpu(), DType::f32};

// An optimizer's first step as a function of the mean gradient g: how much it can stretch an error
// of g. SGD: lr. Adam: lr·g/(|g| + ε) has a slope of at most lr/ε.
struct Rule {
  const char* name;
  double slope;
  std::unique_ptr<Optimizer> (*make)(const Parameters&);
};
constexpr double rate = 0.01, epsilon = 0.05;
const Rule rules[]{
    {"SGD", rate,
     [](const Parameters& p) -> std::unique_ptr<Optimizer> {
       return std::make_unique<Sgd>(p, SgdConfig{.lr = rate, .momentum = 0.9, .weight_decay = 0.1});
     }},
    {"Adam", rate / epsilon,
     [](const Parameters& p) -> std::unique_ptr<Optimizer> {
       return std::make_unique<Adam>(p, AdamConfig{.lr = rate, .epsilon = epsilon});
     }},
    {"AdamW", rate / epsilon,
     [](const Parameters& p) -> std::unique_ptr<Optimizer> {
       return std::make_unique<AdamW>(
           p, AdamConfig{.lr = rate, .epsilon = epsilon, .weight_decay = 0.1});
     }},
};

// What is known without any accumulator: in f64, one batch; Σ|g_k| of a split.
struct Truth {
  const NetKind& kind;
  Mixed batch = mixed_batch(8, exact(), 3);
  Many sums, weights;  // weights: before any step
  double count = 0;

  explicit Truth(const NetKind& k) : kind(k) {
    const auto net = kind.make(exact());
    Cycle cycle(net->all());
    const ClosedCycle closed = run(cycle, *net, batch, {8});
    sums = sums_of(closed), count = closed.count(), weights = weights_of(net->all());
  }
  static ClosedCycle run(Cycle& cycle, const AnyNet& net, const Mixed& batch, const Sizes& sizes) {
    return run_by_hand(cycle, batch, sizes, [&](const Mixed& micro) { return net.loss(micro); });
  }
  Many absolute(const Sizes& sizes) const {
    const auto net = kind.make(exact());
    Many total;
    int64_t first = 0;
    for (int64_t size : sizes) {
      Cycle cycle(net->all());
      const Many one = sums_of(run(cycle, *net, batch.slice(first, size), {size}));
      first += size;
      if (total.empty())
        for (const Numbers& numbers : one) total.emplace_back(numbers.size(), 0);
      for (size_t i = 0; i < one.size(); ++i)
        for (size_t e = 0; e < one[i].size(); ++e) total[i][e] += std::abs(one[i][e]);
    }
    return total;
  }
};

// A micro-gradient itself, in f32: forward and backward of at most 8 operations, each with sums of
// up to 48 terms whose errors are as good as random (√48 ≈ 7 roundings). In f64: the law's 1e-12.
constexpr double chain = 2 * 8 * 7;

// The error that a split may have, over Σ|g_k|. Deposits into a fused sum are added one by one.
double allowed(const Accumulator& accumulator, const NetKind& kind, Where where,
               const Sizes& sizes) {
  const auto states = accumulator.state(wide(where.dtype), {1});
  const auto k = static_cast<int64_t>(sizes.size());
  const double bound = accumulator.error_bound(accumulator.fused() ? 8 * kind.deposits : k);
  if (where.dtype == DType::f32) return bound + chain * u_f32;
  // With f64 masters, sums that are as wide as the master are in f64: u is 2⁻⁵³.
  const bool is_wide = std::ranges::all_of(
      states, [](const Accumulator::State& one) { return one.dtype == DType::f64; });
  return (is_wide ? 0 : bound) + 1e-12;
}

// ‖a − b‖ over ‖scale‖, of the worst tensor.
double error_over(const Many& a, const Many& b, const Many& scale) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    Numbers off(a[i].size());
    for (size_t e = 0; e < off.size(); ++e) off[e] = a[i][e] - b[i][e];
    const double error = norm(off) == 0 ? 0 : norm(off) / norm(scale[i]);
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

// The error of the sums of a split, over what is allowed: at most 1 where the law holds.
double of_sums(const Truth& truth, Where where, const Chosen& accumulator, const Sizes& sizes) {
  const auto net = truth.kind.make(where);
  Cycle cycle(net->all(), {.accumulate = {{"*", accumulator}}});
  const Mixed batch = mixed_batch(8, where, 3);
  const double error =
      error_over(sums_of(Truth::run(cycle, *net, batch, sizes)), truth.sums, truth.absolute(sizes));
  return error / allowed(*accumulator, truth.kind, where, sizes);
}

// The same of the weights after one step: their error may be the rule's slope times that of the
// mean gradient; in f32 the rule's own roundings, some five, are relative to weight and step.
double of_weights(const Truth& truth, Where where, const Chosen& accumulator, const Sizes& sizes,
                  const Rule& rule) {
  const auto one = truth.kind.make(exact()), net = truth.kind.make(where);
  const auto expected = rule.make(one->all()), optimizer = rule.make(net->all());
  Cycle whole(one->all()), cycle(net->all(), {.accumulate = {{"*", accumulator}}});
  expected->step(Truth::run(whole, *one, truth.batch, {8}));
  optimizer->step(Truth::run(cycle, *net, mixed_batch(8, where, 3), sizes));
  const Many a = weights_of(net->all()), b = weights_of(one->all());
  const Many scale = truth.absolute(sizes);
  const double bound = allowed(*accumulator, truth.kind, where, sizes);
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    Numbers off(a[i].size());
    for (size_t e = 0; e < off.size(); ++e) off[e] = a[i][e] - b[i][e];
    const double own = 5 * roundoff(where.dtype) * (norm(b[i]) + norm(Numbers(off.size(), rate)));
    const double may = rule.slope * bound * norm(scale[i]) / truth.count + own;
    if (!(norm(off) / may <= worst)) worst = norm(off) / may;
  }
  return worst;
}

// All that declare a bound: the library's do.
accumulators::Own bounded() {
  for (const auto& one : accumulators::all())
    REQUIRE(one->split_equality() == SplitEquality::bounded);
  accumulators::Own all = every_accumulator();
  std::erase_if(all,
                [](const auto& one) { return one->split_equality() != SplitEquality::bounded; });
  return all;
}

// ---- accumulators that break the law

// The mistake of frameworks: each micro-batch overwrites the last one's gradient.
struct None final : Accumulator {
  std::string_view name() const override { return "none"; }
  bool fused() const override { return false; }
  double error_bound(int64_t k) const override { return accumulators::bf16()->error_bound(k); }
  void fold(GradBuffer& buffer, In micro, Write) const override {
    Accumulator::fold(buffer, micro, Write::set);
  }
};

// Sums in bf16, and claims f32's bound.
struct Boastful final : Accumulator {
  std::string_view name() const override { return "boastful"; }
  bool fused() const override { return true; }
  double error_bound(int64_t k) const override { return accumulators::f32()->error_bound(k); }
  std::vector<State> state(DType, const Shape&) const override { return {{"sum", DType::bf16}}; }
};

// Weighs micro-batches by their order: a running mean that forgets.
struct Moving final : Accumulator {
  std::string_view name() const override { return "moving"; }
  bool fused() const override { return false; }
  double error_bound(int64_t k) const override { return accumulators::bf16()->error_bound(k); }
  void fold(GradBuffer& buffer, In micro, Write write) const override {
    Tensor& sum = buffer.state("sum");
    if (write == Write::add)
      launch(sum.device(), kernel::Scale{sum.in(), {}, 0.9, sum.out(), Write::set});
    Accumulator::fold(buffer, micro, write);
  }
};

}  // namespace

TEST_CASE("every layer and accumulator: the sums of any split are one batch's, as declared") {
  for (const NetKind& kind : net_kinds()) {
    const Truth truth(kind);
    for (const auto& accumulator : bounded())
      for (Where where : {exact(), single})
        for (const Sizes& sizes : splits) {
          CAPTURE(kind.name);
          CAPTURE(accumulator->name());
          CAPTURE(text_of(where));
          CAPTURE(sizes.size());
          CHECK(of_sums(truth, where, accumulator, sizes) <= 1);
        }
  }
}

TEST_CASE("every layer, optimizer and accumulator: so are the weights after a step") {
  for (const NetKind& kind : net_kinds()) {
    const Truth truth(kind);
    for (const Rule& rule : rules)
      for (const auto& accumulator : bounded())
        for (Where where : {exact(), single})
          for (const Sizes& sizes : {Sizes{1, 7}, Sizes{3, 1, 4}}) {
            CAPTURE(kind.name);
            CAPTURE(rule.name);
            CAPTURE(accumulator->name());
            CAPTURE(text_of(where));
            CHECK(of_weights(truth, where, accumulator, sizes, rule) <= 1);
          }
  }
}

TEST_CASE("an accumulator that keeps the last micro-batch alone fails the law, for every layer") {
  for (const NetKind& kind : net_kinds()) {
    const Truth truth(kind);
    for (Where where : {exact(), single}) {
      CAPTURE(kind.name);
      const auto none = std::make_shared<None>();
      CHECK(of_sums(truth, where, none, {8}) <= 1);
      for (const Sizes& sizes : {Sizes{4, 4}, Sizes{1, 7}, Sizes{3, 1, 4}})
        CHECK(of_sums(truth, where, none, sizes) > 1);
      for (const Rule& rule : rules) CHECK(of_weights(truth, where, none, {4, 4}, rule) > 1);
    }
  }
}

TEST_CASE("a false declaration fails the law, for every layer") {
  for (const NetKind& kind : net_kinds()) {
    const Truth truth(kind);
    CAPTURE(kind.name);
    CHECK(of_sums(truth, single, std::make_shared<Boastful>(), {3, 1, 4}) > 1);
    CHECK(of_sums(truth, single, std::make_shared<Moving>(), {3, 1, 4}) > 1);
    CHECK(of_weights(truth, single, std::make_shared<Boastful>(), {3, 1, 4}, rules[0]) > 1);
  }
}

}  // namespace accrue::test
