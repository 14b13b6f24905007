// The moving average of the weights: its formula, what it must not change, evaluation with it.
#include "accrue/optim/ema.h"

#include "saved.h"

namespace accrue::test {
namespace {

struct Stage {
  Linear net{4, 3, normal(0.5)};
  Rows batch;
  std::optional<Sgd> optimizer;
  std::optional<Cycle> cycle;

  explicit Stage(Where where = exact()) : batch(random_rows(6, 4, 3, where, 1)) {
    initialize(net, {where.device, where.dtype}, Seed{1});
    optimizer.emplace(all(), SgdConfig{.lr = 0.1});
    cycle.emplace(all());
  }
  Parameters all() const { return parameters(net); }
  StepReport step() {
    return optimizer->step(cycle->run(
        batch, {.samples = 4}, [&](const Rows& r) { return mean_squared_error(net(r.x), r.y); }));
  }
  Numbers output() const { return net(batch.x).value().to_vector(); }
};

Many averages_of(const Ema& ema) {
  Many averages;
  for (size_t i = 0; i < ema.parameters().size(); ++i)
    averages.push_back(ema.average(i).to_vector());
  return averages;
}

}  // namespace

TEST_CASE("the average is decay·average + (1 − decay)·w, step by step") {
  for (bool warm_up : {false, true}) {
    Stage s;
    Ema ema(s.all(), {.decay = 0.25, .warm_up = warm_up});
    Many expected = weights_of(s.all());
    for (int64_t t = 0; t < 6; ++t) {
      const double decay = warm_up ? std::min(0.25, (1.0 + t) / (10.0 + t)) : 0.25;
      ema.update(s.step());
      const Many weights = weights_of(s.all());
      for (size_t i = 0; i < weights.size(); ++i)
        for (size_t e = 0; e < weights[i].size(); ++e)
          expected[i][e] = decay * expected[i][e] + (1 - decay) * weights[i][e];
    }
    // Three roundings a step on either side, each of at most twice a weight, fading by the decay.
    CHECK(relative_error(averages_of(ema), expected) <= 20 * u_f64);
    CHECK(relative_error(averages_of(ema), weights_of(s.all())) > 1e-3);  // it does lag behind
  }
}

TEST_CASE("the decay warms up by steps done, up to its own value") {
  const Stage s;
  const Ema warm(s.all(), {.decay = 0.9}), flat(s.all(), {.decay = 0.9, .warm_up = false});
  CHECK(warm.decay_after(Step{1}) == 0.1);
  CHECK(warm.decay_after(Step{2}) == 2.0 / 11);
  CHECK(warm.decay_after(Step{81}) == 0.9);  // (1 + 80)/(10 + 80)
  CHECK(warm.decay_after(Step{80}) < 0.9);
  CHECK(warm.decay_after(Step{1'000'000}) == 0.9);
  CHECK(flat.decay_after(Step{1}) == 0.9);
}

TEST_CASE("an average of equal weights equals them to the bit, however slow the decay") {
  Stage s({Device::cpu(), DType::f32});
  Ema ema(s.all(), {.decay = 0.9999, .warm_up = false});
  for (int64_t t = 1; t <= 1000; ++t) ema.update({Step{t}, false, 0, 0, 0, 0});
  for (size_t i = 0; i < s.all().size(); ++i)
    CHECK(bits_of(ema.average(i)) == bits_of(s.all().list[i]->master));
  // Rounded to f32, decay and 1 − decay do not add to 1: the form with two products drifts.
  const auto decay = static_cast<float>(0.9999), rest = static_cast<float>(1 - 0.9999);
  int drifted = 0;
  for (double number : random_numbers(100, 1)) {
    const auto weight = static_cast<float>(number);
    float average = weight;
    for (int t = 0; t < 1000; ++t) average = decay * average + rest * weight;
    drifted += average != weight;
  }
  CHECK(drifted > 0);
}

TEST_CASE("a skipped step leaves the averages byte for byte") {
  Stage s;
  Ema ema(s.all());
  ema.update(s.step());
  const std::string before = state_bits(ema);
  Numbers bad = s.batch.y.to_vector();
  const Tensor good = s.batch.y;
  bad[0] = INFINITY;
  s.batch.y = tensor_of({6, 3}, bad, exact());
  const StepReport skipped = s.step();
  REQUIRE(skipped.skipped);
  ema.update(skipped);
  CHECK(state_bits(ema) == before);
  s.batch.y = good;
  ema.update(s.step());
  CHECK(state_bits(ema) != before);
}

TEST_CASE("inside the scope the model computes with the averages, afterwards with its own bits") {
  for (const Where where : {Where{Device::cpu(), DType::f32}, Where{Device::cpu(), DType::bf16}}) {
    Stage s(where), plain(where);
    Ema ema(s.all(), {.decay = 0.5, .warm_up = false});
    for (int t = 0; t < 3; ++t) {
      ema.update(s.step());
      plain.step();
    }
    const std::string weights = weight_bits(s.all()), averages = state_bits(ema);
    const void* address = s.all().list[0]->master.in().data;
    const Numbers own = s.output();
    {
      const EmaScope scope(ema);
      Linear other{4, 3, zeros()};
      initialize(other, {where.device, where.dtype}, Seed{2});
      for (size_t i = 0; i < s.all().size(); ++i)
        CHECK(bits_of(ema.average(i)) == bits_of(plain.all().list[i]->master));  // exchanged
      assign(other, s.net);
      CHECK(s.output() == other(s.batch.x).value().to_vector());
      CHECK(s.output() != own);
      CHECK(s.all().list[0]->master.in().data == address);
    }
    CHECK(weight_bits(s.all()) == weights);
    CHECK(state_bits(ema) == averages);
    CHECK(s.output() == own);
    s.step();
    plain.step();  // never saw an average
    CHECK(weight_bits(s.all()) == weight_bits(plain.all()));
  }
}

TEST_CASE("an exception inside the scope gives the weights back") {
  Stage s;
  Ema ema(s.all());
  ema.update(s.step());
  const std::string before = weight_bits(s.all());
  CHECK_THROWS_AS(
      [&] {
        const EmaScope scope(ema);
        CHECK(weight_bits(s.all()) != before);
        throw Failure("evaluation");
      }(),
      Failure);
  CHECK(weight_bits(s.all()) == before);
}

TEST_CASE("while the averages are in the model nothing updates, saves or exchanges them again") {
  Stage s;
  Ema ema(s.all());
  const EmaScope scope(ema);
  CHECK(contains(message_of<BadOrder>([&] {
                   ema.update({Step{1}, false, 0, 0, 0, 0});
                 }),
                 "own weights"));
  CHECK(contains(message_of<BadOrder>([&] { (void)state_bits(ema); }), "outside"));
  CHECK(contains(message_of<BadOrder>([&] { const EmaScope again(ema); }), "one EmaScope"));
}

TEST_CASE("a saved average goes on with the bits of an uninterrupted one") {
  Stage s;
  Ema whole(s.all()), resumed(s.all());
  whole.update(s.step());
  CHECK(state_bits(whole) != state_bits(resumed));
  Saved(whole).into(resumed);
  const StepReport report = s.step();
  whole.update(report);
  resumed.update(report);
  CHECK(state_bits(whole) == state_bits(resumed));
}

TEST_CASE("settings and models that cannot be averaged are refused") {
  const Stage s;
  CHECK_THROWS_AS(Ema(s.all(), {.decay = 1}), BadArgument);
  CHECK_THROWS_AS(Ema(s.all(), {.decay = -0.1}), BadArgument);
  CHECK_THROWS_AS(Ema(s.all(), {.decay = NAN}), BadArgument);
  const Linear raw{2, 2};
  CHECK_THROWS_AS(Ema(parameters(raw)), BadOrder);
}

}  // namespace accrue::test
