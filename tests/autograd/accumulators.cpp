// Every accumulator: the bound it declares, what it must be better than, order, overflow, numbers
// that are not finite, bytes. Long: every claim is held for one list of accumulators.
#include <algorithm>
#include <functional>
#include <random>

#include "feed.h"

namespace accrue::test {
namespace {

const Where single{Device::cpu(), DType::f32};

// ---- sums of numbers that are hard to add

struct Series {
  const char* name;
  double (*number)(int64_t k, int64_t weight);
};

const Series series[]{
    {"random", noise},
    {"of one sign", [](int64_t k, int64_t w) { return std::abs(noise(k, w)); }},
    {"equal", [](int64_t, int64_t w) { return 0.1 + 0.01 * static_cast<double>(w); }},
    {"alternating",
     [](int64_t k, int64_t w) { return (k % 2 ? -1 : 1) * (1 + 0x1p-9 * std::abs(noise(k, w))); }},
    {"huge and small",
     [](int64_t k, int64_t w) { return noise(k, w) * (k % 3 == 0 ? 0x1p14 : 0x1p-14); }},
    {"small after huge that cancel",
     [](int64_t k, int64_t w) { return k == 0   ? 0x1p12
                                       : k == 1 ? -0x1p12
                                                : noise(k, w) / 64; }},
};

// The largest error of any weight, relative to Σ|g| of that weight; of the tensor's largest Σ|g|
// for fixed point, whose unit is one for the whole tensor.
double error_of(const Accumulator& accumulator, const Numbers& sums, const Exact& exact) {
  long double worst = 0;
  const long double largest = *std::ranges::max_element(exact.absolute);
  for (size_t i = 0; i < sums.size(); ++i) {
    const long double scale = accumulator.name() == "fixed_point" ? largest : exact.absolute[i];
    const long double error = std::abs(sums[i] - exact.sum[i]) / scale;
    if (!(error <= worst)) worst = error;
  }
  return static_cast<double>(worst);
}

double error_of(const std::shared_ptr<const Accumulator>& accumulator,
                const std::vector<Tensor>& gradients) {
  Feed feed(accumulator, gradients[0].elements());
  feed.facts.micro_batches = static_cast<int64_t>(gradients.size());
  feed.cycle(gradients);  // fixed point learns its range
  return error_of(*accumulator, feed.cycle(gradients), exact_sums(gradients));
}

// f32's numbers and bf16's promise: a declaration that is wrong.
struct Boastful final : Accumulator {
  std::string_view name() const override { return "boastful"; }
  bool fused() const override { return true; }
  double error_bound(int64_t k) const override { return static_cast<double>(k - 1) * 0x1p-24; }
  std::vector<State> state(DType, const Shape&) const override { return {{"sum", DType::bf16}}; }
};

int64_t gradient_bytes() {
  return host_allocator().use().current[static_cast<int>(Tag::gradients)];
}
int64_t gradient_peak() { return host_allocator().use().peak[static_cast<int>(Tag::gradients)]; }

}  // namespace

TEST_CASE("every accumulator stays within its bound, whatever is added and however often") {
  for (const auto& accumulator : accumulators::all())
    for (const Series& one : series)
      for (int64_t k : {1, 2, 3, 7, 32, 512, 2048}) {
        CAPTURE(accumulator->name());
        CAPTURE(one.name);
        CAPTURE(k);
        const std::vector<Tensor> gradients = micro_gradients(k, 16, one.number);
        CHECK(error_of(accumulator, gradients) <= accumulator->error_bound(k));
      }
}

TEST_CASE("every accumulator stays within its bound in any order") {
  std::mt19937_64 random(1);
  for (const auto& accumulator : accumulators::all())
    for (const Series& one : series) {
      CAPTURE(accumulator->name());
      CAPTURE(one.name);
      std::vector<Tensor> gradients = micro_gradients(64, 16, one.number);
      for (int i = 0; i < 10; ++i) {
        std::ranges::shuffle(gradients, random);
        CHECK(error_of(accumulator, gradients) <= accumulator->error_bound(64));
      }
    }
}

TEST_CASE("a bound that promises too much is caught") {
  const auto boastful = std::make_shared<Boastful>();
  for (const Series& one : series) {
    CAPTURE(one.name);
    if (std::string_view(one.name).ends_with("cancel")) continue;  // f32's bound is loose there
    const std::vector<Tensor> gradients = micro_gradients(32, 16, one.number);
    CHECK(error_of(boastful, gradients) > boastful->error_bound(32));
  }
}

TEST_CASE("256 and then 1 are 257, in bf16 256 and, at random, 258") {
  const std::vector<Tensor> terms =
      micro_gradients(2, 64, [](int64_t k, int64_t) { return k == 0 ? 256 : 1; });
  for (const auto& accumulator : accumulators::all()) {
    CAPTURE(accumulator->name());
    Feed feed(accumulator, 64);
    const Numbers sums = feed.cycle(terms);
    const double most = *std::ranges::max_element(sums), least = *std::ranges::min_element(sums);
    if (accumulator->name() == "bf16") {
      CHECK((least == 256 && most == 256));
    } else if (accumulator->name() == "bf16_stochastic") {  // 64 equal coins: once in 2⁶³
      CHECK((least == 256 && most == 258));
    } else {
      CHECK((least == 257 && most == 257));
    }
  }
}

TEST_CASE("2048 equal terms: bf16 stalls at 256, and no other accumulator does") {
  constexpr int64_t k = 2048;
  const std::vector<Tensor> ones = micro_gradients(k, 8, [](int64_t, int64_t) { return 1; });
  for (const auto& accumulator : accumulators::all()) {
    CAPTURE(accumulator->name());
    Feed feed(accumulator, 8);
    for (double sum : feed.cycle(ones)) {
      if (accumulator->name() == "bf16") {
        CHECK(sum == 256);
      } else if (accumulator->name() == "bf16_stochastic") {
        // A step of 1 goes up by an ulp with probability 1/ulp: variance below ulp ≤ 16 each, so
        // six standard deviations are 6·√(2048·16).
        CHECK(std::abs(sum - k) <= 6 * std::sqrt(16.0 * k));
      } else {
        CHECK(sum == k);
      }
    }
  }
}

TEST_CASE("kahan, tree and f64 are better than f32 by more than their bounds") {
  // 0.1f is not a sum of few powers of two: each addition rounds, in f32 the same way for long.
  constexpr int64_t k = 2048;
  const std::vector<Tensor> terms = micro_gradients(k, 1, [](int64_t, int64_t) { return 0.1; });
  const double plain = error_of(accumulators::f32(), terms);
  for (const auto& accumulator :
       {accumulators::kahan(), accumulators::tree(), accumulators::f64()}) {
    CAPTURE(accumulator->name());
    CHECK(accumulator->error_bound(k) < plain);
    CHECK(error_of(accumulator, terms) <= accumulator->error_bound(k));
  }
}

TEST_CASE("the published errors of K equal-sized terms: bf16 stalls by 3/4 at 2048, f32 does not") {
  // g = 1 ± 0.3, inputs rounded to bf16; the root of the mean square over 1,024 weights. A root of
  // a mean square of roundings varies with the distribution of g, so a factor of two is left.
  struct Row {
    int64_t k;
    double bf16, stochastic;
  };
  for (const auto& [k, bf16, stochastic] :
       {Row{32, 5.2e-3, 7.3e-3}, Row{512, 2.1e-2, 3.2e-2}, Row{2048, 0.75, 4.7e-2}}) {
    std::mt19937_64 bits(static_cast<uint64_t>(k));
    std::normal_distribution<double> spread(1, 0.3);
    std::vector<Tensor> terms =
        micro_gradients(k, 1024, [&](int64_t, int64_t) { return spread(bits); });
    for (Tensor& one : terms)
      one = tensor_of(one.shape(), one.to_vector(), {Device::cpu(), DType::bf16});
    const Exact exact = exact_sums(terms);
    const auto rms = [&](const std::shared_ptr<const Accumulator>& accumulator) {
      Feed feed(accumulator, 1024);
      const Numbers sums = feed.cycle(terms);
      double total = 0;
      for (size_t i = 0; i < sums.size(); ++i)
        total += std::pow(sums[i] / static_cast<double>(exact.sum[i]) - 1, 2);
      return std::sqrt(total / static_cast<double>(sums.size()));
    };
    const double rn = rms(accumulators::bf16()), sr = rms(accumulators::bf16_stochastic());
    CAPTURE(k);
    CAPTURE(rn);
    CAPTURE(sr);
    CHECK((rn > bf16 / 2 && rn < bf16 * 2));
    CHECK((sr > stochastic / 2 && sr < stochastic * 2));
    CHECK(rms(accumulators::f32()) < 1e-7);
  }
}

// ---- stochastic rounding

TEST_CASE("stochastic rounding is right on average over 10,000 cycles, where bf16 never moves") {
  // 1 and three terms below half of an ulp (2⁻⁷ above 1): bf16 stays at 1.
  constexpr int64_t cycles = 10'000, weights = 8;
  const std::vector<Tensor> terms = micro_gradients(4, weights, [](int64_t k, int64_t w) {
    return k == 0 ? 1 : 0.001 * static_cast<double>(w % 3 + 1);
  });
  const Exact exact = exact_sums(terms);
  Feed random(accumulators::bf16_stochastic(), weights), nearest(accumulators::bf16(), weights);
  Numbers mean(weights, 0);
  for (int64_t i = 0; i < cycles; ++i) {
    const Numbers sums = random.cycle(terms);
    for (int64_t w = 0; w < weights; ++w) mean[w] += sums[w] / cycles;
  }
  const Numbers stalled = nearest.cycle(terms);
  for (int64_t w = 0; w < weights; ++w) {
    CAPTURE(w);
    // A rounding's variance is at most ulp²/4; three of them in each cycle; five deviations. The
    // sums within f32 add three roundings of 2⁻²⁴.
    const double bound = 5 * std::sqrt(3.0 / cycles) * 0x1p-7 / 2 + 6 * u_f32;
    CHECK(std::abs(mean[w] - static_cast<double>(exact.sum[w])) <= bound);
    CHECK(std::abs(stalled[w] - static_cast<double>(exact.sum[w])) > bound);
  }
}

TEST_CASE("stochastic rounding is keyed by seed, parameter, cycle, addition and element") {
  const std::vector<Tensor> terms = micro_gradients(8, 64, [](int64_t, int64_t) { return 0.7; });
  const auto run = [&](const std::string& name, int64_t cycle, int64_t zeros_first,
                       Seed seed = {}) {
    Feed feed(accumulators::bf16_stochastic(seed), 64, single, name);
    feed.facts.index = CycleIndex{cycle};
    const Tensor zero = tensor_of({64}, Numbers(64, 0), single);
    for (int64_t i = 0; i < zeros_first; ++i) feed.micro(zero);
    for (const Tensor& one : terms) feed.micro(one);
    return numbers_of(feed.buffer.sum());
  };
  const Numbers same = run("weight", 5, 0);
  CHECK(run("weight", 5, 0) == same);
  CHECK(run("weight", 6, 0) != same);
  CHECK(run("weight", 5, 1) != same);
  CHECK(run("other", 5, 0) != same);
  CHECK(run("weight", 5, 0, Seed{1}) != same);
  CHECK(std::ranges::count(same, same[0]) < 64);  // by element
}

// ---- what every accumulator shares

TEST_CASE(
    "a gradient that is not finite shows in the sum, and the next cycle knows nothing of it") {
  for (const auto& accumulator : accumulators::all())
    for (double poison :
         {static_cast<double>(INFINITY), static_cast<double>(-INFINITY), static_cast<double>(NAN)})
      for (int64_t at : {0, 1, 4}) {
        CAPTURE(accumulator->name());
        CAPTURE(poison);
        CAPTURE(at);
        const std::vector<Tensor> good = micro_gradients(5, 16, noise);
        const std::vector<Tensor> bad = micro_gradients(
            5, 16, [=](int64_t k, int64_t w) { return k == at && w == 3 ? poison : noise(k, w); });
        Feed feed(accumulator, 16), fresh(accumulator, 16);
        feed.cycle(good), fresh.cycle(good);
        const Numbers sums = feed.cycle(bad);
        fresh.cycle(good);
        CHECK(!std::isfinite(sums[3]));
        for (size_t i = 0; i < 16; ++i)
          CHECK((i == 3 || accumulator->name() == "fixed_point" || std::isfinite(sums[i])));
        CHECK(feed.cycle(good) == fresh.cycle(good));
      }
}

TEST_CASE("between micro-batches an accumulator holds the bytes that it declares, at most") {
  for (Where where : {single, exact()})
    for (const auto& accumulator : accumulators::all())
      for (int64_t k : {1, 2, 3, 5, 8, 13}) {
        CAPTURE(accumulator->name());
        CAPTURE(k);
        Dot model;
        initialize(model, {where.device, where.dtype}, Seed{1});
        const Rows batch = random_rows(k, 64, 1, where, 1);
        const auto wide_bytes = static_cast<int64_t>(size_of(wide(where.dtype)));
        // Totals and records in f64, the loss's own gradient, and fixed point's largest term.
        const int64_t before = gradient_bytes(),
                      figures =
                          16 + 512 + wide_bytes + (accumulator->name() == "fixed_point" ? 8 : 0);
        std::vector<int64_t> at_edges;
        Cycle cycle(parameters(model),
                    {.accumulate = {{"*", accumulator}}, .at_edge = [&](MicroStep) {
                       at_edges.push_back(gradient_bytes() - before - figures);
                     }});
        host_allocator().reset_peak();
        (void)cycle.run(batch, {.samples = 1}, [&](const Rows& rows) { return model.loss(rows); });
        const auto declared =
            static_cast<int64_t>(64 * accumulator->bytes_per_weight(k, wide(where.dtype)));
        const int64_t peak = gradient_peak() - before - figures;
        if (accumulator->name() == "tree") {  // micro-gradients become its leaves
          for (int64_t i = 0; i < k; ++i)
            CHECK(at_edges[i] <= 64 * accumulator->bytes_per_weight(i + 1, wide(where.dtype)));
          CHECK(peak == declared);
        } else {
          CHECK(at_edges == std::vector<int64_t>(k, declared));
          CHECK(peak == declared + (accumulator->fused() ? 0 : 64 * wide_bytes));
        }
        CHECK(gradient_bytes() - before - figures ==
              at_edges[0] - (accumulator->name() == "tree" ? 64 * wide_bytes : 0));
      }
}

TEST_CASE("a cycle that is discarded gives back what it does not need for the next") {
  Dot model;
  initialize(model, {single.device, single.dtype}, Seed{1});
  const Rows batch = random_rows(7, 64, 1, single, 1);
  for (const auto& accumulator : accumulators::all()) {
    CAPTURE(accumulator->name());
    Cycle cycle(parameters(model), {.accumulate = {{"*", accumulator}}});
    for (int i = 0; i < 2; ++i) {
      (void)cycle.run(batch, {.samples = 1}, [&](const Rows& rows) { return model.loss(rows); });
      const int64_t between = gradient_bytes();
      for (const Rows& micro : cycle.split(batch.slice(0, 7), {.samples = 1})) {
        MicroScope scope = cycle.begin(micro);
        scope.backward(model.loss(micro));
      }
      cycle.discard();
      CHECK(gradient_bytes() == between);
      const std::vector<Rows> parts = cycle.split(batch, {.samples = 1});
      for (int64_t k = 0; k < 3; ++k) {
        MicroScope scope = cycle.begin(parts[k]);
        scope.backward(model.loss(parts[k]));
      }
      cycle.discard();
      CHECK(gradient_bytes() == between);
    }
  }
}

}  // namespace accrue::test
