// The effective batch by a table, by the noise scale and by a plateau, and in what steps it moves.
#include "accrue/optim/batch_schedule.h"

#include "saved.h"

namespace accrue::test {

TEST_CASE("a table's entry holds from its step until the next one's") {
  const BatchTable table = BatchTable::parse("0:32,1000:64,5000:16");
  for (const auto& [step, samples] : std::vector<std::pair<int64_t, int64_t>>{
           {0, 32}, {999, 32}, {1000, 64}, {4999, 64}, {5000, 16}, {1'000'000, 16}})
    CHECK(table(Step{step}) == samples);
  CHECK(table.largest() == 64);
  CHECK(BatchTable(12)(Step{7}) == 12);
  CHECK(BatchTable::parse("0:12").largest() == 12);
}

TEST_CASE("a table that is none is refused with an example of one") {
  for (const char* words :
       {"", "32", "0:", ":32", "0:32,", "0:32,,9:4", "0:x", "0:3.5", "0:32:1", "5:32", "0:32,0:64",
        "0:32,9:1,8:2", "0:0", "0:-4", "0:32, 9:4", "0:99999999999999999999"})
    CHECK_THROWS_AS_MESSAGE(BatchTable::parse(words), BadArgument, words);
  CHECK(contains(message_of<BadArgument>([] { BatchTable::parse("32"); }), "try 0:32,1000:64"));
}

TEST_CASE("the step after so many samples is the first that has seen them") {
  const BatchTable table = BatchTable::parse("0:4,3:10,5:2");
  const auto seen_before = [&](Step step) {
    int64_t seen = 0;
    for (Step s; s < step; ++s.value) seen += table(s);
    return seen;
  };
  for (int64_t samples = 0; samples <= 60; ++samples) {
    const Step step = table.step_after(samples);
    CHECK(seen_before(step) >= samples);
    if (step > Step{0}) CHECK(seen_before(Step{step.value - 1}) < samples);
  }
  // A warm-up of 100 steps of 12 samples, for batches of 12, 24 and 5.
  CHECK(BatchTable(12).step_after(1200) == Step{100});
  CHECK(BatchTable(24).step_after(1200) == Step{50});
  CHECK(BatchTable(5).step_after(1200) == Step{240});
}

TEST_CASE("one effective batch under any micro-batch has ⌈B/m⌉ micro-batches") {
  Linear net{2, 1};
  initialize(net, {exact().device, exact().dtype}, Seed{1});
  Cycle cycle(parameters(net));
  const BatchTable batches = BatchTable::parse("0:12,1:7");
  const auto micro_batches = [&](Step step, int64_t micro) {
    const Rows rows = random_rows(batches(step), 2, 1, exact(), 1);
    return cycle
        .run(rows, {.samples = micro},
             [&](const Rows& r) { return mean_squared_error(net(r.x), r.y); })
        .micro_batches();
  };
  for (int64_t micro : {1, 2, 3, 4, 5, 7, 12, 16}) {
    CHECK(micro_batches(Step{0}, micro) == MicroStep{(12 + micro - 1) / micro});
    CHECK(micro_batches(Step{1}, micro) == MicroStep{(7 + micro - 1) / micro});
  }
}

TEST_CASE("by noise: the batch follows B_simple to the nearest multiple, within its limits") {
  BatchByNoise batch(8,
                     {.limits = {.smallest = 8, .largest = 64, .multiple = 8}, .hysteresis = 1.25});
  CHECK(batch(Step{0}) == 8);
  CHECK(batch.largest() == 64);
  for (const auto& [noise, samples] :
       std::vector<std::pair<double, int64_t>>{{27, 24}, {29, 32}, {1e12, 64}, {0, 8}, {44, 48}}) {
    batch.noise_seen(Step{1}, noise);
    CHECK(batch(Step{1}) == samples);
  }
}

TEST_CASE("by noise: changes below the hysteresis are ignored, so that it does not flutter") {
  const BatchLimits limits{.smallest = 10, .largest = 1000, .multiple = 10};
  const auto changes = [&](double hysteresis) {
    BatchByNoise batch(100, {.limits = limits, .hysteresis = hysteresis});
    int changed = 0;
    for (int i = 0; i < 100; ++i) {
      const int64_t before = batch(Step{i});
      batch.noise_seen(Step{i}, i % 2 ? 93 : 114);
      changed += batch(Step{i}) != before;
    }
    return changed;
  };
  CHECK(changes(1.25) == 0);
  CHECK(changes(1) > 90);  // or the check above could not fail
  BatchByNoise batch(100, {.limits = limits, .hysteresis = 1.25});
  batch.noise_seen(Step{0}, 124);
  CHECK(batch(Step{0}) == 100);
  batch.noise_seen(Step{0}, 126);
  CHECK(batch(Step{0}) == 130);
  batch.noise_seen(Step{0}, 106);
  CHECK(batch(Step{0}) == 130);
  batch.noise_seen(Step{0}, 104);
  CHECK(batch(Step{0}) == 100);
}

TEST_CASE("by noise: nothing moves before the step that it holds until") {
  BatchByNoise batch(8,
                     {.limits = {.smallest = 8, .largest = 64, .multiple = 8}, .hold = Step{100}});
  batch.noise_seen(Step{99}, 64);
  CHECK(batch(Step{99}) == 8);
  batch.noise_seen(Step{100}, 64);
  CHECK(batch(Step{100}) == 64);
}

TEST_CASE("by plateau: patience runs out, the batch grows, up to its largest") {
  BatchByPlateau batch(12, {.limits = {.smallest = 12, .largest = 36, .multiple = 12},
                            .patience = 2,
                            .improvement = 0.01});
  const auto after = [&](double loss) {
    batch.validation_seen(loss);
    return batch(Step{0});
  };
  CHECK(after(4) == 12);
  CHECK(after(3.97) == 12);  // less than 1 % better: waited 1
  CHECK(after(3.9) == 12);   // an improvement: waited 0
  CHECK(after(5) == 12);
  CHECK(after(NAN) == 24);  // no improvement either
  CHECK(after(5) == 24);
  CHECK(after(5) == 36);  // 48 is above the largest
  CHECK(after(5) == 36);
  CHECK(after(5) == 36);
}

TEST_CASE("by plateau: a factor near 1 grows by one multiple at least") {
  BatchByPlateau batch(
      12,
      {.limits = {.smallest = 12, .largest = 120, .multiple = 12}, .factor = 1.1, .patience = 1});
  batch.validation_seen(1);
  batch.validation_seen(1);
  CHECK(batch(Step{0}) == 24);
}

TEST_CASE("adaptive schedules go on from a checkpoint where they were") {
  const BatchLimits limits{.smallest = 4, .largest = 64, .multiple = 4};
  BatchByPlateau whole(4, {.limits = limits, .patience = 2}),
      resumed(4, {.limits = limits, .patience = 2});
  for (double loss : {2.0, 1.0, 1.0, 1.0, 1.0}) whole.validation_seen(loss);
  REQUIRE(whole(Step{0}) == 8);  // and waited 1
  Saved(whole).into(resumed);
  for (BatchByPlateau* one : {&whole, &resumed}) one->validation_seen(0.9999);
  CHECK(whole(Step{0}) == 16);
  CHECK(resumed(Step{0}) == 16);

  BatchByNoise noise(4, {.limits = limits}), other(4, {.limits = limits});
  noise.noise_seen(Step{0}, 40);
  Saved(noise).into(other);
  CHECK(other(Step{0}) == 40);
}

TEST_CASE("limits and settings that cannot be are refused") {
  const auto noise = [](int64_t start, BatchLimits limits, double hysteresis = 2) {
    return [=] { BatchByNoise(start, {.limits = limits, .hysteresis = hysteresis}); };
  };
  CHECK(contains(message_of<BadArgument>(noise(8, {4, 15, 4})), "multiples of 4"));
  CHECK(contains(message_of<BadArgument>(noise(2, {4, 16, 4})), "from 4 to 16"));
  CHECK(contains(message_of<BadArgument>(noise(32, {4, 16, 4})), "from 4 to 16"));
  CHECK(contains(message_of<BadArgument>(noise(8, {4, 16, 0})), "multiples of 0"));
  CHECK(contains(message_of<BadArgument>(noise(8, {0, 16, 4})), "multiples"));
  CHECK(contains(message_of<BadArgument>(noise(8, {4, 16, 4}, 0.9)), "hysteresis"));
  const BatchLimits limits{4, 16, 4};
  CHECK_THROWS_AS(BatchByPlateau(8, {.limits = limits, .factor = 1}), BadArgument);
  CHECK_THROWS_AS(BatchByPlateau(8, {.limits = limits, .patience = 0}), BadArgument);
  CHECK_THROWS_AS(BatchByPlateau(8, {.limits = limits, .improvement = -1}), BadArgument);
  BatchByNoise batch(8, {.limits = limits});
  CHECK_THROWS_AS(batch.noise_seen(Step{0}, NAN), BadArgument);
  CHECK(batch(Step{0}) == 8);
}

}  // namespace accrue::test
