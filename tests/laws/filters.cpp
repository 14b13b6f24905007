// Filters: what they keep, weigh and drop; that a drop is exact in loss, count and step. Long: the
// laws of all filters and their negative controls share one model and one way to compare.
#include "laws/outside.h"
#include "support.h"

namespace accrue::test {
namespace {

using Sizes = std::vector<int64_t>;
const Where single{Device::cpu(), DType::f32};
constexpr double law = 1e-12;  // in f64

GptConfig with_dropout() {
  GptConfig config = tiny_gpt();
  config.dropout = 0.2;
  return config;
}

// Tied weights, dropout, sequences of different lengths.
struct Stage {
  Gpt model;
  TokenBatch batch;
  explicit Stage(Where where)
      : model(with_dropout()),
        batch(token_batch(with_dropout(), 8, where.device, 5, {6, 1, 4, 6, 3, 2, 5, 3})) {
    initialize(model, {where.device, where.dtype}, Seed{1});
  }
  ClosedCycle run(Cycle& cycle, const Sizes& sizes) const {
    return run_by_hand(cycle, batch, sizes, chunked_loss(model));
  }
  /// The raw gradients of each micro-batch, with its count.
  std::vector<std::pair<Many, double>> micros(const Sizes& sizes) const {
    std::vector<std::pair<Many, double>> all;
    int64_t first = 0;
    for (int64_t size : sizes) {
      Cycle cycle(parameters(model));
      const ClosedCycle one =
          run_by_hand(cycle, batch.slice(first, size), {size}, chunked_loss(model));
      all.emplace_back(sums_of(one), one.count());
      first += size;
    }
    return all;
  }
};

double dot(const Many& a, const Many& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i)
    sum = std::inner_product(a[i].begin(), a[i].end(), b[i].begin(), sum);
  return sum;
}

void add(Many& sum, const Many& one, double factor = 1) {
  if (sum.empty())
    for (const Numbers& numbers : one) sum.emplace_back(numbers.size(), 0);
  for (size_t i = 0; i < one.size(); ++i)
    for (size_t e = 0; e < one[i].size(); ++e) sum[i][e] += factor * one[i][e];
}

std::string sum_bits(const ClosedCycle& closed) {
  std::string bits;
  for (const GradBuffer* buffer : closed.buffers())
    bits += buffer->touched() ? bits_of(buffer->state("sum")) : "none";
  return bits;
}

// A vector of weights whose micro-gradient is whatever x says: loss Σ x·w.
struct Plane {
  Parameter weight{Shape{2, 1}, zeros()};
  Plane() { initialize(*this, {exact().device, exact().dtype}, Seed{1}); }
  void visit(Visitor& part) { part("weight", weight); }
  Loss loss(const Rows& rows) const { return Loss(sum(matmul(rows.x, weight)), rows.x.shape()[0]); }
  ClosedCycle run(Cycle& cycle, const Numbers& gradients) const {
    const auto k = static_cast<int64_t>(gradients.size()) / 2;
    const Tensor x = tensor_of({k, 2}, gradients, exact());
    Rows batch{x, x, std::vector<int64_t>(k)};
    std::iota(batch.indices.begin(), batch.indices.end(), int64_t{0});
    return cycle.run(batch, {.samples = 1}, [&](const Rows& r) { return loss(r); });
  }
};

// The identity, whose gradient is multiplied by a number that need not be finite.
struct SpoilOp {
  double by;
  int* backwards;
  Tensor forward(Saved&, const Tensor& x) const { return x; }
  void backward(const Saved&, const Tensor& dy, Edge dx) const {
    ++*backwards;
    Tensor result = empty_like(dy);
    launch(dy.device(), kernel::Scale{dy.in(), {}, by, result.out(), Write::set});
    dx.pass(result);
  }
};

// How a micro-batch goes wrong: in its loss, or only in its gradient.
enum class Harm { loss, gradient };

struct Harmed {
  const Stage& stage;
  int64_t sample;  // the micro-batch that begins with it
  Harm harm;
  mutable int backwards = 0;  // of the harmed micro-batches
  Loss operator()(const TokenBatch& micro) const {
    const Loss one = chunked_loss(stage.model)(micro);
    if (micro.indices[0] != 1000 + sample) return one;
    const bool in_loss = harm == Harm::loss;
    const Var spoiled = record(
        "spoil", SpoilOp{in_loss ? 1.0 : static_cast<double>(INFINITY), &backwards}, one.sum());
    return Loss(in_loss ? scale(spoiled, NAN) : spoiled, one.count());
  }
};

}  // namespace

// ---- clip

TEST_CASE("clip: no micro-batch weighs more than the limit, and the others are as they were") {
  const Stage s(exact());
  const Sizes sizes{3, 1, 4};
  const auto micros = s.micros(sizes);
  for (const auto& accumulator : accumulators::all())
    for (double limit : {0.5, 4.0, 1e9}) {
      CAPTURE(accumulator->name());
      CAPTURE(limit);
      Many expected, absolute;
      double count = 0;
      for (const auto& [gradient, n] : micros) {
        add(expected, gradient, std::min(1.0, limit / std::sqrt(dot(gradient, gradient))));
        count += n;
      }
      Cycle cycle(parameters(s.model),
                  {.accumulate = {{"*", accumulator}}, .filter = filters::clip(limit)});
      const ClosedCycle closed = s.run(cycle, sizes);
      const Many sums = sums_of(closed);
      const double own = accumulator->error_bound(3);
      CHECK(std::sqrt(dot(sums, sums)) <= 3 * limit * (1 + own));
      const bool narrow = accumulator->name().starts_with("bf16");
      for (size_t i = 0; i < sums.size(); ++i) {
        Numbers off(sums[i].size());
        for (size_t e = 0; e < off.size(); ++e) off[e] = sums[i][e] - expected[i][e];
        double scale = 0;
        for (const auto& [gradient, n] : micros)
          scale += norm(gradient[i]) * std::min(1.0, limit / std::sqrt(dot(gradient, gradient)));
        // Sums in f64, but for those in bf16 and the unit of fixed point, 2⁻⁴⁷ in its first cycle.
        CHECK(norm(off) <= (narrow ? own : law) * scale +
                               3 * 0x1p-47 * std::sqrt(static_cast<double>(off.size())));
      }
      CHECK(closed.count() == count);  // weighed, not dropped
      const auto records = closed.records();
      for (size_t k = 0; k < 3; ++k) {
        const double length = std::sqrt(dot(micros[k].first, micros[k].first));
        REQUIRE(records[k].gradient_norm);
        CHECK(std::abs(*records[k].gradient_norm / length - 1) <= law);
        CHECK(std::abs(records[k].factor - std::min(1.0, limit / length)) <= law);
        CHECK(records[k].cosine.has_value() == (accumulator->running_sum() && k > 0));
      }
    }
}

TEST_CASE("clip of micro-batches depends on the split, as it must") {
  const Plane plane;
  Cycle cycle(parameters(plane), {.filter = filters::clip(1)});
  // 3 and 0 along the first axis, 0 and 4 along the second: clipped apart, then together.
  CHECK(sums_of(plane.run(cycle, {3, 0, 0, 4})) == Many{{1, 1}});
  CHECK(relative_error(sums_of(plane.run(cycle, {3, 4})), {{0.6, 0.8}}) <= law);
}

TEST_CASE("clip: a limit that nothing reaches has the bits of no filter, loss scaled or not") {
  for (Where where : {single, Where{Device::cpu(), DType::bf16}}) {
    const Stage s(where);
    for (const auto& accumulator : accumulators::all()) {
      if (accumulator->fused()) continue;  // their deposits go to the sum one by one
      CAPTURE(accumulator->name());
      Cycle plain(parameters(s.model), {.accumulate = {{"*", accumulator}}});
      Cycle clipped(parameters(s.model),
                    {.accumulate = {{"*", accumulator}}, .filter = filters::clip(1e9)});
      CHECK(sum_bits(s.run(plain, {3, 1, 4})) == sum_bits(s.run(clipped, {3, 1, 4})));
    }
    AdamW a(parameters(s.model));
    Stage other(where);
    AdamW b(parameters(other.model));
    Cycle unscaled(parameters(s.model), {.filter = filters::clip(0.5)});
    Cycle scaled(parameters(other.model),
                 {.filter = filters::clip(0.5),
                  .loss_scale = std::make_shared<LossScale>(LossScaleConfig{.initial = 256})});
    a.step(s.run(unscaled, {3, 1, 4}));
    b.step(other.run(scaled, {3, 1, 4}));
    CHECK(weight_bits(parameters(s.model)) == weight_bits(parameters(other.model)));
    CHECK(unscaled.records()[1].gradient_norm == scaled.records()[1].gradient_norm);
  }
}

TEST_CASE("clip hides nothing: a gradient that is not finite makes the cycle one to skip") {
  for (double by : {static_cast<double>(INFINITY), static_cast<double>(NAN)})
    for (const auto& filter : {filters::clip(1), filters::agreement(0), filters::agreement(0.5),
                               filters::agreement(1), filters::observe()}) {
      CAPTURE(filter->name());
      CAPTURE(by);
      const Plane plane;
      Sgd optimizer(parameters(plane));
      Cycle cycle(parameters(plane), {.filter = filter});
      const std::string before = weight_bits(parameters(plane));
      ClosedCycle closed = plane.run(cycle, {1, 0, by, 0, 0, 1});
      CHECK(closed.count() == 3);
      CHECK(optimizer.step(std::move(closed)).skipped);
      CHECK(weight_bits(parameters(plane)) == before);
      CHECK(cycle.records()[1].non_finite);
      CHECK(!cycle.records()[2].non_finite);
    }
}

// ---- agreement

TEST_CASE("agreement: τ = 2 keeps all and has the bits of observing") {
  const Stage s(single);
  for (const auto& accumulator : accumulators::all()) {
    if (!accumulator->running_sum()) continue;
    CAPTURE(accumulator->name());
    Cycle kept(parameters(s.model),
               {.accumulate = {{"*", accumulator}}, .filter = filters::agreement(2)});
    Cycle seen(parameters(s.model),
               {.accumulate = {{"*", accumulator}}, .filter = filters::observe()});
    const ClosedCycle a = s.run(kept, {3, 1, 4}), b = s.run(seen, {3, 1, 4});
    CHECK(sum_bits(a) == sum_bits(b));
    CHECK(a.count() == b.count());
  }
}

TEST_CASE("agreement: a micro-batch that points the other way is dropped with its loss and count") {
  const Plane plane;
  Cycle cycle(parameters(plane), {.filter = filters::agreement(0.9)});
  const ClosedCycle closed = plane.run(cycle, {1, 0, -1, 0.1, 1, 1, 0, 2});
  // Kept: (1, 0); then (1, 1), cosine 1/√2; then (0, 2), cosine with (2, 1) of 1/√5.
  CHECK(sums_of(closed) == Many{{2, 3}});
  CHECK(closed.count() == 3);
  const auto records = cycle.records();
  CHECK(!records[0].cosine);
  CHECK(records[1].factor == 0);
  CHECK(records[1].count == 0);
  CHECK(std::abs(*records[1].cosine + 1 / std::sqrt(1.01)) <= law);
  CHECK(std::abs(*records[2].cosine - 1 / std::sqrt(2)) <= law);
  CHECK(std::abs(*records[3].cosine - 1 / std::sqrt(5)) <= law);
  CHECK(records[3].factor == 1);
}

TEST_CASE("agreement depends on the order: the first micro-batch decides") {
  const Plane plane;
  Cycle cycle(parameters(plane), {.filter = filters::agreement(0.9)});
  CHECK(sums_of(plane.run(cycle, {1, 0, -1, 0.5})) == Many{{1, 0}});
  CHECK(sums_of(plane.run(cycle, {-1, 0.5, 1, 0})) == Many{{-1, 0.5}});
}

// ---- drop-non-finite

TEST_CASE(
    "a dropped micro-batch leaves the bits of the cycle without it: sums, loss, count, step") {
  for (Where where :
       {single, Where{Device::cpu(), DType::bf16}, Where{Device::cpu(), DType::f16}, exact()})
    for (const auto& accumulator : every_accumulator())
      for (Harm harm : {Harm::loss, Harm::gradient})
        for (size_t dropped : {0, 1, 2}) {
          if (!accumulator->bears_drops()) continue;  // refused: tests/laws/outside.cpp
          CAPTURE(text_of(where));
          CAPTURE(accumulator->name());
          CAPTURE(dropped);
          const Sizes sizes{3, 1, 4};
          const int64_t begin[]{0, 3, 4};
          Stage with(where), without(where);
          AdamW a(parameters(with.model)), b(parameters(without.model));
          const CycleOptions options{.accumulate = {{"*", accumulator}},
                                     .filter = filters::drop_non_finite()};
          Cycle cycle(parameters(with.model), options), other(parameters(without.model), options);
          Harmed loss{with, begin[dropped], harm};
          int64_t first = 0;
          for (size_t k = 0; k < 3; first += sizes[k++]) {
            const TokenBatch micro = with.batch.slice(first, sizes[k]);
            {
              MicroScope scope = cycle.begin(micro);
              scope.backward(loss(micro));
            }
            if (k == dropped) continue;
            const TokenBatch same = without.batch.slice(first, sizes[k]);
            MicroScope scope = other.begin(same);
            scope.backward(chunked_loss(without.model)(same));
          }
          // A loss that is not finite never sees its backward.
          CHECK(loss.backwards == (harm == Harm::loss ? 0 : 1));
          ClosedCycle left = cycle.close(), right = other.close();
          CHECK(left.count() == right.count());
          CHECK(left.mean_loss() == right.mean_loss());
          const MicroRecord record = left.records()[dropped];
          CHECK((record.factor == 0 && record.count == 0 && record.non_finite));
          // Where the place in the cycle decides about bits, the sums agree within their bounds.
          const std::string_view name = accumulator->name();
          if (name != "bf16_stochastic" && name != "tree")
            CHECK(sum_bits(left) == sum_bits(right));
          else
            CHECK(relative_error(sums_of(left), sums_of(right)) <= 4 * accumulator->error_bound(3));
          const bool same_bits = sum_bits(left) == sum_bits(right);
          CHECK(a.step(std::move(left)).step == b.step(std::move(right)).step);
          if (same_bits)
            CHECK(weight_bits(parameters(with.model)) == weight_bits(parameters(without.model)));
        }
}

TEST_CASE("an overflow that the filter dropped shrinks the loss scale; a bad loss does not") {
  for (Harm harm : {Harm::loss, Harm::gradient}) {
    const Stage s(single);
    AdamW optimizer(parameters(s.model));
    const auto scale = std::make_shared<LossScale>();
    Cycle cycle(parameters(s.model), {.filter = filters::drop_non_finite(), .loss_scale = scale});
    Harmed loss{s, 3, harm};
    CHECK(!optimizer.step(run_by_hand(cycle, s.batch, {3, 1, 4}, loss)).skipped);
    CHECK(scale->value() == (harm == Harm::gradient ? 32768 : 65536));
    CHECK(!optimizer.step(run_by_hand(cycle, s.batch, {3, 1, 4}, chunked_loss(s.model))).skipped);
    CHECK(scale->value() == (harm == Harm::gradient ? 32768 : 65536));  // the next knows nothing
  }
}

TEST_CASE("a checkpoint in mid-cycle remembers the overflow that was dropped") {
  for (bool forget : {false, true}) {  // the control
    const Stage s(single);
    AdamW optimizer(parameters(s.model));
    const auto scale = std::make_shared<LossScale>();
    Cycle cycle(parameters(s.model), {.filter = filters::drop_non_finite(), .loss_scale = scale});
    const Harmed loss{s, 3, Harm::gradient};
    int64_t first = 0;
    for (int64_t size : {3, 1, 4}) {
      const TokenBatch micro = s.batch.slice(std::exchange(first, first + size), size);
      {
        MicroScope scope = cycle.begin(micro);
        scope.backward(loss(micro));
      }
      if (first != 4) continue;
      int64_t seen = -1;
      Visitor visitor({.integer = [&](const std::string& name, int64_t& number) {
        if (name == "overflowed") seen = std::exchange(number, forget ? 0 : number);
      }});
      cycle.visit(visitor);
      CHECK(seen == 1);
    }
    CHECK(!optimizer.step(cycle.close()).skipped);
    CHECK(scale->value() == (forget ? 65536 : 32768));
  }
}

TEST_CASE("without the filter the same micro-batch skips the whole cycle") {
  for (Harm harm : {Harm::loss, Harm::gradient}) {
    const Stage s(single);
    AdamW optimizer(parameters(s.model));
    Cycle cycle(parameters(s.model));
    Harmed loss{s, 3, harm};
    CHECK(optimizer.step(run_by_hand(cycle, s.batch, {3, 1, 4}, loss)).skipped);
    CHECK(loss.backwards == 1);
  }
}

TEST_CASE("a cycle of which all was dropped is skipped, and its index goes on") {
  Stage s(single);
  AdamW optimizer(parameters(s.model));
  Cycle cycle(parameters(s.model), {.filter = filters::drop_non_finite()});
  optimizer.step(s.run(cycle, {8}));
  const std::string before = weight_bits(parameters(s.model)) + state_bits(optimizer);
  ClosedCycle closed = cycle.run(s.batch, {.samples = 4}, [&](const TokenBatch& micro) {
    const Loss one = chunked_loss(s.model)(micro);
    return Loss(scale(one.sum(), NAN), one.count());
  });
  CHECK(closed.count() == 0);
  CHECK(std::isnan(closed.mean_loss()));
  CHECK(optimizer.step(std::move(closed)).skipped);
  CHECK(weight_bits(parameters(s.model)) + state_bits(optimizer) == before);
  CHECK(cycle.step() == Step{1});
  CHECK(cycle.index() == CycleIndex{2});
  CHECK(!optimizer.step(s.run(cycle, {4, 4})).skipped);
}

TEST_CASE("a drop in run(), whose batch declared more, is divided by what is left") {
  const Stage s(exact());
  Cycle cycle(parameters(s.model), {.filter = filters::drop_non_finite()}),
      other(parameters(s.model));
  Harmed loss{s, 4, Harm::loss};
  const ClosedCycle closed =
      cycle.run(s.batch, {.samples = 4}, [&](const TokenBatch& micro) { return loss(micro); });
  const ClosedCycle alone = run_by_hand(other, s.batch, {4}, chunked_loss(s.model));
  CHECK(closed.count() == alone.count());
  CHECK(closed.count() < static_cast<double>(s.batch.count()));
}

// ---- observe

TEST_CASE("observe: norms and cosines are those of the gradients, and nothing changes") {
  for (Where where : {exact(), single}) {
    const Stage s(where);
    const Sizes sizes{3, 1, 4};
    const auto micros = s.micros(sizes);
    Cycle cycle(parameters(s.model), {.filter = filters::observe()});
    const ClosedCycle closed = s.run(cycle, sizes);
    const auto records = closed.records();
    Many sum;
    // In f32 the sums are rounded once for each micro-batch, and deposits in other places.
    const double bound = where.dtype == DType::f64 ? law : 100 * u_f32;
    for (size_t k = 0; k < 3; ++k) {
      const Many& gradient = micros[k].first;
      const double length = std::sqrt(dot(gradient, gradient));
      REQUIRE(records[k].gradient_norm);
      CHECK(std::abs(*records[k].gradient_norm / length - 1) <= bound);
      CHECK(records[k].cosine.has_value() == (k > 0));
      if (k > 0)
        CHECK(std::abs(*records[k].cosine -
                       dot(gradient, sum) / length / std::sqrt(dot(sum, sum))) <= bound);
      add(sum, gradient);
      CHECK(records[k].factor == 1);
      CHECK(records[k].count == micros[k].second);
    }
    CHECK(relative_error(sums_of(closed), sum) <= bound);
  }
}

TEST_CASE("observe: where no sum runs there are norms all the same, and no cosines") {
  const Stage s(single);
  for (const auto& accumulator : accumulators::all()) {
    CAPTURE(accumulator->name());
    Cycle cycle(parameters(s.model),
                {.accumulate = {{"*", accumulator}}, .filter = filters::observe()});
    const ClosedCycle closed = s.run(cycle, {3, 1, 4});
    const auto records = closed.records();
    for (const MicroRecord& one : records) CHECK(one.gradient_norm.value_or(0) > 0);
    CHECK(records[1].cosine.has_value() == accumulator->running_sum());
  }
}

// ---- choices

TEST_CASE("filters that read the sums so far are refused where there are none") {
  const Plane plane;
  for (const auto& accumulator : accumulators::all())
    for (const auto& filter : {filters::agreement(1), filters::observe(), filters::clip(1),
                               filters::drop_non_finite()}) {
      const std::string message = message_of<BadArgument>([&] {
        Cycle(parameters(plane), {.accumulate = {{"*", accumulator}}, .filter = filter});
      });
      if (accumulator->running_sum() || !filter->reads_sums()) {
        CHECK(message == "nothing was thrown");
      } else {
        CHECK_MESSAGE((contains(message, filter->name()) &&
                       contains(message, accumulator->name()) && contains(message, "kahan")),
                      message);
      }
    }
}

TEST_CASE("filters that declare no equality of splits differ between them, the others do not") {
  const Stage s(exact());
  // In f64 a clip below every norm and a threshold that drops some; what they change is large.
  for (const auto& filter : {filters::clip(1e-3), filters::agreement(0.5),
                             filters::drop_non_finite(), filters::observe()}) {
    CAPTURE(filter->name());
    const auto sums = [&](int64_t micro) {
      Cycle cycle(parameters(s.model), {.filter = filter});
      return sums_of(cycle.run(s.batch, {.samples = micro}, chunked_loss(s.model)));
    };
    const double error = relative_error(sums(1), sums(8));
    if (filter->split_equality() == SplitEquality::none)
      CHECK(error > 0.01);
    else
      CHECK(error <= 1e-12);
  }
}

TEST_CASE("filters by name; what cannot be is refused") {
  for (const char* name : {"clip:1.5", "agreement:0.9", "drop-non-finite", "observe"})
    CHECK(filters::parse(name)->name() == name);
  CHECK(filters::parse("clip:15e-1")->name() == "clip:1.5");
  CHECK(filters::clip(0.1f)->name() == "clip:0.10000000149011612");
  for (const char* bad : {"", "clip", "clip:", "clip:x", "clip:1x", "clip:0", "clip:-1", "clip:nan",
                          "agreement", "agreement:3", "agreement:-0.1", "observe:1", "Clip:1"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(filters::parse(bad), BadArgument);
  }
}

}  // namespace accrue::test
