// What a cycle says of its micro-batches: records and the prefix norm for the noise scale.
#include <map>

#include "support.h"

namespace accrue::test {
namespace {

const Where single{Device::cpu(), DType::f32};

struct Net {
  Linear up{3, 4, normal(0.5)}, down{4, 2, normal(0.5)};
  Var operator()(const Var& x) const { return down(gelu(up(x))); }
  void visit(Visitor& part) { part("up", up), part("down", down); }
};

struct Stage {
  Net net;
  Rows batch;
  explicit Stage(int64_t samples = 7, Where where = single)
      : batch(random_rows(samples, 3, 2, where, 1)) {
    initialize(net, {where.device, where.dtype}, Seed{1});
  }
  Loss loss(const Rows& rows) const { return mean_squared_error(net(rows.x), rows.y); }
  auto closure() const {
    return [this](const Rows& rows) { return loss(rows); };
  }
  /// Loss and count of one micro-batch, computed by itself.
  std::pair<double, double> alone(int64_t first, int64_t count) const {
    const Loss one = loss(batch.slice(first, count));
    return {one.sum().value().item(), one.count().item()};
  }
};

struct Stop : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace

TEST_CASE("records hold each micro-batch's samples, loss, count, time and bytes") {
  const Stage s;
  Cycle cycle(parameters(s.net));
  CHECK(cycle.records().empty());
  for (int i = 0; i < 2; ++i) {
    const ClosedCycle closed = cycle.run(s.batch, {.samples = 3}, s.closure());
    const std::vector<MicroRecord> records = closed.records();
    REQUIRE(records.size() == 3);
    double loss = 0, count = 0;
    for (int64_t k = 0; k < 3; ++k) {
      const MicroRecord& one = records[k];
      const auto [own_loss, own_count] = s.alone(3 * k, k == 2 ? 1 : 3);
      CHECK(one.samples == (k == 2 ? 1 : 3));
      CHECK(one.loss == own_loss);
      CHECK(one.count == own_count);
      CHECK(one.factor == 1);
      CHECK(!one.non_finite);
      CHECK(one.milliseconds > 0);
      // At least the weights and their sums, and no more than was ever handed out.
      CHECK(one.bytes >= 2 * 4 * parameters(s.net).elements());
      CHECK(one.bytes <= host_allocator().use().peak_total);
      CHECK(!one.gradient_norm);
      CHECK(!one.cosine);
      loss += one.loss, count += one.count;
    }
    CHECK(closed.count() == count);
    CHECK(std::abs(closed.mean_loss() - loss / count) <= 4 * u_f64 * std::abs(loss / count));
  }
  CHECK(cycle.records().size() == 3);  // of the last cycle, until the next begins
}

TEST_CASE("a record's bytes are all that was handed out when its backward began, to the byte") {
  const Stage s;
  Cycle cycle(parameters(s.net));
  std::vector<int64_t> expected;
  for (const Rows& micro : cycle.split(s.batch, {.samples = 3})) {
    MicroScope scope = cycle.begin(micro);
    const Loss loss = s.loss(micro);
    expected.push_back(host_allocator().use().total);
    scope.backward(loss);
  }
  for (size_t k = 0; k < expected.size(); ++k) CHECK(cycle.records()[k].bytes == expected[k]);
  CHECK(expected[2] < expected[1]);  // one sample instead of three
}

TEST_CASE("records grow beyond 32 micro-batches and keep what they have") {
  const Stage s(100);
  Cycle cycle(parameters(s.net));
  (void)cycle.run(s.batch, {.samples = 1}, s.closure());
  const std::vector<MicroRecord> records = cycle.records();
  REQUIRE(records.size() == 100);
  for (int64_t k = 0; k < 100; ++k) CHECK(records[k].loss == s.alone(k, 1).first);
  (void)cycle.run(s.batch, {.samples = 50}, s.closure());
  CHECK(cycle.records().size() == 2);
}

TEST_CASE("a dry run leaves records that a real cycle can write") {
  const Stage s(40);
  for (int64_t first : {1, 40}) {  // within and beyond the room that there is at first
    Cycle cycle(parameters(s.net));
    {
      const ModeScope dry(Mode::dry);
      (void)cycle.run(s.batch, {.samples = first}, s.closure());
    }
    (void)cycle.run(s.batch, {.samples = 1}, s.closure());
    REQUIRE(cycle.records().size() == 40);
    CHECK(cycle.records()[39].loss == s.alone(39, 1).first);
  }
}

TEST_CASE("a micro-batch that is left before its backward has no record") {
  const Stage s;
  Cycle cycle(parameters(s.net));
  for (int64_t k : {0, 1}) {
    const Rows micro = s.batch.slice(k, 1);
    {
      MicroScope left = cycle.begin(micro);
      (void)s.loss(micro);
    }
    CHECK(static_cast<int64_t>(cycle.records().size()) == k);
    MicroScope scope = cycle.begin(micro);
    scope.backward(s.loss(micro));
  }
  CHECK(cycle.records().size() == 2);
  CHECK(cycle.records()[1].loss == s.alone(1, 1).first);
}

TEST_CASE("a loss that is not finite is flagged in its own record") {
  Stage s;
  Numbers y = s.batch.y.to_vector();
  y[2 * 4] = NAN;
  s.batch.y = tensor_of({7, 2}, y, single);
  Cycle cycle(parameters(s.net));
  (void)cycle.run(s.batch, {.samples = 2}, s.closure());
  const std::vector<MicroRecord> records = cycle.records();
  for (int64_t k = 0; k < 4; ++k) CHECK(records[k].non_finite == (k == 2));
}

TEST_CASE("a stopped cycle that goes on in the same process keeps its records") {
  const Stage s;
  bool stop = true;
  Cycle cycle(parameters(s.net), {.at_edge = [&](MicroStep done) {
                if (stop && done.value == 2) throw Stop("here");
              }});
  CHECK_THROWS_AS((void)cycle.run(s.batch, {.samples = 2}, s.closure()), Stop);
  CHECK(cycle.records().size() == 2);
  stop = false;
  (void)cycle.run(s.batch, {.samples = 2}, s.closure());
  REQUIRE(cycle.records().size() == 4);
  for (int64_t k = 0; k < 4; ++k)
    CHECK(cycle.records()[k].loss == s.alone(2 * k, k == 3 ? 1 : 2).first);
}

TEST_CASE("a cycle from a checkpoint has records of what it did itself, and no older ones") {
  const Stage s;
  std::map<std::string, int64_t> integers;
  std::map<std::string, Tensor> tensors;
  {
    Cycle first(parameters(s.net), {.at_edge = [&](MicroStep done) {
                  if (done.value == 3) throw Stop("here");
                }});
    CHECK_THROWS_AS((void)first.run(s.batch, {.samples = 2}, s.closure()), Stop);
    Visitor save(
        {.tensor =
             [&](const std::string& name, Tensor& t) {
               tensors[name] = tensor_of(t.shape(), t.to_vector(), {t.device(), t.dtype()});
             },
         .integer = [&](const std::string& name, int64_t& n) { integers[name] = n; }});
    first.visit(save);
    CHECK(first.records().size() == 3);  // saving forgets nothing
  }
  Cycle second(parameters(s.net));
  (void)second.run(s.batch, {.samples = 1}, s.closure());  // a cycle of its own, of seven records
  Visitor load({.tensor =
                    [&](const std::string& name, Tensor& t) {
                      launch(t.device(), kernel::Copy{tensors.at(name).in(), t.out(), Write::set});
                    },
                .integer = [&](const std::string& name, int64_t& n) { n = integers.at(name); }});
  second.visit(load);
  CHECK(second.records().empty());
  const ClosedCycle closed = second.run(s.batch, {.samples = 2}, s.closure());
  REQUIRE(closed.records().size() == 1);
  CHECK(closed.records()[0].loss == s.alone(6, 1).first);
  CHECK(closed.micro_batches() == MicroStep{4});
}

TEST_CASE("records of shares count 1, those of dropped micro-batches 0") {
  const Stage s;
  Cycle shares(parameters(s.net));
  (void)shares.run(s.batch, {.samples = 4},
                   [&](const Rows& rows) { return Loss::share(s.loss(rows).sum(), 14); });
  for (const MicroRecord& one : shares.records()) CHECK(one.count == 1);
}

// ---- the first micro-batch's norm

TEST_CASE("the prefix is ‖A₁/n₁‖² and n₁ of the first micro-batch, loss scale divided out") {
  const Stage s(7, exact());
  for (const char* name : {"f32", "kahan"})
    for (double loss_scale : {1.0, 1024.0}) {
      CycleOptions options{.accumulate = accumulators::parse(name), .noise_scale = true};
      if (loss_scale != 1)
        options.loss_scale = std::make_shared<LossScale>(LossScaleConfig{.initial = loss_scale});
      Cycle cycle(parameters(s.net), options), first(parameters(s.net));
      const ClosedCycle whole = cycle.run(s.batch, {.samples = 2}, s.closure());
      const ClosedCycle alone = first.run(s.batch.slice(0, 2), {.samples = 2}, s.closure());
      double squares = 0;
      for (const Numbers& sum : sums_of(alone))
        for (double one : sum) squares += one * one;
      REQUIRE(whole.prefix());
      CHECK(whole.prefix()->count == 4);
      CHECK(std::abs(whole.prefix()->squared_norm / (squares / 16) - 1) <= 1e-13);
    }
}

TEST_CASE("there is no prefix of one micro-batch, of none that counts, or where it was not asked") {
  const Stage s;
  Cycle asked(parameters(s.net), {.noise_scale = true}), not_asked(parameters(s.net));
  CHECK(!asked.run(s.batch, {.samples = 7}, s.closure()).prefix());
  CHECK(asked.run(s.batch, {.samples = 4}, s.closure()).prefix());
  CHECK(!not_asked.run(s.batch, {.samples = 4}, s.closure()).prefix());
  CHECK(!asked
             .run(s.batch, {.samples = 4},
                  [&](const Rows& rows) {
                    return Loss::share(s.loss(rows).sum(),
                                       14);  // parts of a mean: there is no count
                  })
             .prefix());
}

TEST_CASE("where the first micro-batch was dropped, the prefix is of the first that counts") {
  Stage s(8, exact());
  Numbers y = s.batch.y.to_vector();
  y[1] = NAN;
  s.batch.y = tensor_of({8, 2}, y, exact());
  Cycle cycle(parameters(s.net), {.filter = filters::drop_non_finite(), .noise_scale = true});
  Cycle second(parameters(s.net));
  const ClosedCycle alone = second.run(s.batch.slice(2, 2), {.samples = 2}, s.closure());
  double squares = 0;
  for (const Numbers& sum : sums_of(alone))
    for (double one : sum) squares += one * one;
  const ClosedCycle closed = cycle.run(s.batch, {.samples = 2}, s.closure());
  REQUIRE(closed.prefix());
  CHECK(closed.prefix()->count == 4);
  CHECK(std::abs(closed.prefix()->squared_norm / (squares / 16) - 1) <= 1e-13);
}

}  // namespace accrue::test
