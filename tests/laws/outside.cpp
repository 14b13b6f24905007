// What a program's own accumulators get without a line of theirs: tiers and clean cycles.
#include "laws/outside.h"

#include "feed.h"
#include "laws/tiers.h"

namespace accrue::test {
namespace {

CycleOptions with(const std::shared_ptr<const Accumulator>& accumulator, Reproducible tier) {
  return {.accumulate = {{"*", accumulator}}, .reproducible = tier};
}

}  // namespace

TEST_CASE("split: the same bits for every micro-batch size, also of accumulators from outside") {
  for (Where where : {single, half})
    for (const auto& accumulator : outside()) {
      CAPTURE(text_of(where));
      CAPTURE(accumulator->name());
      const CycleOptions options = with(accumulator, Reproducible::split);
      const std::string expected = trained(where, options, 12);
      for (int64_t size : tier_sizes) CHECK(trained(where, options, size) == expected);
    }
}

TEST_CASE("accumulators that declare no equality of splits differ between them; the others hold") {
  for (const auto& accumulator : every_accumulator()) {
    CAPTURE(accumulator->name());
    const Stage s(exact());
    const auto sums = [&](int64_t micro) {
      Cycle cycle(parameters(s.model), with(accumulator, Reproducible::run));
      return sums_of(cycle.run(s.batch, {.samples = micro}, chunked_loss(s.model)));
    };
    // Sums in bf16 are off by 2⁻⁹ for each of some 12 · 6 deposits, as good as random: 0.02. A vote
    // and a median are no sums at all.
    const double error = relative_error(sums(1), sums(12));
    const bool none = accumulator->split_equality() == SplitEquality::none;
    const bool projects = accumulator->name() == "flora";  // linear: f64 hides the split
    CHECK((error > 0.05) == (none && !projects));
    if (projects) {
      Cycle plain(parameters(s.model));
      const Many whole = sums_of(plain.run(s.batch, {.samples = 12}, chunked_loss(s.model)));
      CHECK(relative_error(sums(12), whole) > 0.05);
    }
  }
}

TEST_CASE("a gradient that is not finite shows in the sum of those that declare it, in no other") {
  for (const auto& accumulator : every_accumulator())
    for (double poison : {double(INFINITY), -double(INFINITY), double(NAN)}) {
      CAPTURE(accumulator->name());
      CAPTURE(poison);
      Feed feed(accumulator, 16);
      feed.facts.divisor = 5;
      const auto bad = [=](int64_t k, int64_t w) {
        return k == 1 && w == 3 ? poison : noise(k, w);
      };
      const Numbers sums = feed.cycle(micro_gradients(5, 16, bad));
      CHECK(std::isfinite(sums[3]) == !accumulator->shows_non_finite());
    }
}

TEST_CASE("an accumulator that hides an overflow takes no loss scale; one that counts, no drops") {
  const Stage s(single);
  for (const auto& accumulator : every_accumulator()) {
    CAPTURE(accumulator->name());
    const std::string name(accumulator->name());
    CycleOptions scaled = with(accumulator, Reproducible::run), dropping = scaled;
    scaled.loss_scale = std::make_shared<LossScale>();
    dropping.filter = filters::drop_non_finite();
    const auto made = [&](CycleOptions options) {
      return [&, options] { Cycle(parameters(s.model), options); };
    };
    if (accumulator->shows_non_finite())
      CHECK_NOTHROW(made(scaled)());
    else
      CHECK(contains(message_of<BadArgument>(made(scaled)), name + " hides it; train in bf16"));
    if (accumulator->bears_drops())
      CHECK_NOTHROW(made(dropping)());
    else
      CHECK(contains(message_of<BadArgument>(made(dropping)),
                     name + ", which cannot lose a micro-batch"));
  }
}

TEST_CASE("nothing of a discarded cycle is left in an accumulator from outside") {
  for (const auto& accumulator : outside()) {
    CAPTURE(accumulator->name());
    const Stage s(single);
    const auto sums = [&](bool discarded) {
      Cycle cycle(parameters(s.model), with(accumulator, Reproducible::run));
      if (discarded) {
        for (const TokenBatch& micro : cycle.split(s.batch.slice(0, 4), {.samples = 2})) {
          MicroScope scope = cycle.begin(micro);
          scope.backward(chunked_loss(s.model)(micro));
        }
        cycle.discard();
      }
      return sums_of(cycle.run(s.batch, {.samples = 3}, chunked_loss(s.model)));
    };
    CHECK(sums(true) == sums(false));
  }
}

TEST_CASE("ranks refuses accumulators from outside, whose sums are no tree, by name") {
  const Stage s(single);
  for (const auto& accumulator : outside()) {
    const std::string message = message_of<BadArgument>(
        [&] { Cycle(parameters(s.model), with(accumulator, Reproducible::ranks)); });
    CHECK_MESSAGE(contains(message, std::string(accumulator->name())), message);
  }
}

}  // namespace accrue::test
