// Schedules: their values at every edge.
#include "support.h"

namespace accrue::test {

TEST_CASE("a constant is a constant") {
  const Schedule schedule = 0.25;
  CHECK(schedule(Step{0}) == 0.25);
  CHECK(schedule(Step{1'000'000}) == 0.25);
}

TEST_CASE("warm-up rises in equal parts, never from zero, and hands over at its end") {
  const Schedule schedule = warm_up(Step{4}, 2, std::function<double(Step)>([](Step since) {
                                      return 100 + static_cast<double>(since.value);
                                    }));
  for (int64_t s = 0; s < 4; ++s) CHECK(schedule(Step{s}) == 2 * static_cast<double>(s + 1) / 4);
  CHECK(schedule(Step{4}) == 100);
  CHECK(schedule(Step{5}) == 101);
  CHECK(warm_up(Step{0}, 2, 3)(Step{0}) == 3);
}

TEST_CASE("cosine: peak after warm-up, half-way half, floor at the total and for ever") {
  const Schedule schedule = cosine(1, Step{10}, Step{110}, 0.1);
  CHECK(schedule(Step{0}) == doctest::Approx(0.1).epsilon(1e-15));
  CHECK(schedule(Step{9}) == 1);
  CHECK(schedule(Step{10}) == 1);
  CHECK(schedule(Step{35}) == doctest::Approx(0.1 + 0.9 * (1 + std::sqrt(0.5)) / 2).epsilon(1e-14));
  CHECK(schedule(Step{60}) == doctest::Approx(0.55).epsilon(1e-14));
  CHECK(schedule(Step{110}) == doctest::Approx(0.1).epsilon(1e-14));
  CHECK(schedule(Step{100'000}) == schedule(Step{110}));
  for (int64_t s = 10; s < 110; ++s) CHECK(schedule(Step{s + 1}) < schedule(Step{s}));
}

TEST_CASE("linear: a straight line from peak to floor") {
  const Schedule schedule = linear(1, Step{2}, Step{12}, 0.5);
  CHECK(schedule(Step{0}) == 0.5);
  CHECK(schedule(Step{1}) == 1);
  for (int64_t s = 2; s <= 12; ++s)
    CHECK(schedule(Step{s}) ==
          doctest::Approx(1 - 0.05 * static_cast<double>(s - 2)).epsilon(1e-14));
  CHECK(schedule(Step{13}) == 0.5);
}

TEST_CASE("no warm-up, and nothing but warm-up") {
  CHECK(cosine(1, Step{0}, Step{10}, 0)(Step{0}) == 1);
  const Schedule all = linear(1, Step{5}, Step{5}, 0.25);
  CHECK(all(Step{4}) == 1);
  CHECK(all(Step{6}) == 0.25);
  CHECK(linear(1, Step{0}, Step{0}, 0.25)(Step{1}) == 0.25);
}

TEST_CASE("a total before the end of the warm-up is refused") {
  CHECK_THROWS_AS(cosine(1, Step{10}, Step{9}, 0), BadArgument);
  CHECK_THROWS_AS(linear(1, Step{10}, Step{9}, 0), BadArgument);
  CHECK_THROWS_AS(cosine(1, Step{-1}, Step{9}, 0), BadArgument);
}

}  // namespace accrue::test
