// What a program's own accumulators get without a line of theirs: tiers and clean cycles.
#include "laws/outside.h"

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
