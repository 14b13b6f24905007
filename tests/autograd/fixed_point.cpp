// Fixed point: any order gives the same bits; a sum that overflows makes the cycle run again.
#include <algorithm>

#include "feed.h"

namespace accrue::test {
namespace {

const Where single{Device::cpu(), DType::f32};

}  // namespace

TEST_CASE("fixed point: 100 orders of the micro-batches give the same bits, where f32 does not") {
  std::vector<Tensor> gradients = micro_gradients(
      48, 32, [](int64_t k, int64_t w) { return noise(k, w) * (k % 3 == 0 ? 0x1p14 : 0x1p-14); });
  Feed fixed(accumulators::fixed_point(), 32), plain(accumulators::f32(), 32);
  fixed.cycle(gradients);  // learns its range, which the order cannot change either
  const Numbers expected = fixed.cycle(gradients), in_f32 = plain.cycle(gradients);
  std::mt19937_64 bits(1);
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    std::ranges::shuffle(gradients, bits);
    CHECK(fixed.cycle(gradients) == expected);
    differs = differs || plain.cycle(gradients) != in_f32;
  }
  CHECK(differs);
}

TEST_CASE("fixed point in its first cycle: an absolute unit of 2⁻⁴⁶, whatever comes first") {
  const std::vector<Tensor> gradients =
      micro_gradients(7, 16, [](int64_t k, int64_t w) { return 1e-6 * noise(k, w); });
  const Exact exact = exact_sums(gradients);
  Feed feed(accumulators::fixed_point(), 16);
  const Numbers first = feed.cycle(gradients);
  for (size_t i = 0; i < 16; ++i)
    CHECK(std::abs(first[i] - static_cast<double>(exact.sum[i])) <=
          7 * 0x1p-47 + u_f32 * static_cast<double>(exact.absolute[i]));
}

TEST_CASE("fixed point that overflows runs the cycle again, once, and has learned from it") {
  Dot model;
  initialize(model, {single.device, single.dtype}, Seed{1});
  const Rows batch = random_rows(6, 64, 1, single, 1);
  int64_t micro_batches = 0;
  Cycle fixed(parameters(model), {.accumulate = {{"*", accumulators::fixed_point()}},
                                  .at_edge = [&](MicroStep) { ++micro_batches; }});
  Cycle wide(parameters(model), {.accumulate = {{"*", accumulators::f64()}}});
  // Gradients of up to 3·10⁶: more than 2¹⁶.
  const auto loss = [&](const Rows& rows) { return model.loss(rows, 1e6); };
  const Many expected = sums_of(wide.run(batch, {.samples = 2}, loss));
  for (int64_t runs : {6, 9}) {
    const ClosedCycle closed = fixed.run(batch, {.samples = 2}, loss);
    CHECK(micro_batches == runs);  // only the first cycle's were run twice
    CHECK(closed.count() == 6);
    CHECK(relative_error(sums_of(closed), expected) <= 2 * u_f32);
    CHECK(closed.records().size() == 3);
  }
}

TEST_CASE("fixed point that overflows again, since its second pass is another, is an error") {
  Dot model;
  initialize(model, {single.device, single.dtype}, Seed{1});
  const Rows batch = random_rows(6, 64, 1, single, 1);
  Cycle cycle(parameters(model), {.accumulate = {{"*", accumulators::fixed_point()}}});
  double size = 1;
  const auto growing = [&](const Rows& rows) { return model.loss(rows, size *= 1e3); };
  const std::string message =
      message_of<Failure>([&] { (void)cycle.run(batch, {.samples = 2}, growing); });
  CHECK_MESSAGE(contains(message, "overflow"), message);
  CHECK(cycle.micro_batches() == MicroStep{0});
  CHECK(cycle.index() == CycleIndex{0});
  const auto steady = [&](const Rows& rows) { return model.loss(rows, 1); };
  Cycle wide(parameters(model), {.accumulate = {{"*", accumulators::f64()}}});
  const Many expected = sums_of(wide.run(batch, {.samples = 2}, steady));
  const Many sums = sums_of(cycle.run(batch, {.samples = 2}, steady));
  CHECK(relative_error(sums, expected) <= 2 * u_f32);
}

TEST_CASE("fixed point that overflows by hand: close() says so, the next attempt succeeds") {
  Dot model;
  initialize(model, {single.device, single.dtype}, Seed{1});
  const Rows batch = random_rows(6, 64, 1, single, 1);
  Cycle cycle(parameters(model), {.accumulate = {{"*", accumulators::fixed_point()}}});
  Sgd optimizer(parameters(model));
  const auto attempt = [&] {
    for (const Rows& micro : cycle.split(batch, {.samples = 2})) {
      MicroScope scope = cycle.begin(micro);
      scope.backward(model.loss(micro, 1e6));
    }
    return cycle.close();
  };
  const std::string message = message_of<Failure>([&] { (void)attempt(); });
  CHECK_MESSAGE((contains(message, "overflow") && contains(message, "once more")), message);
  CHECK(cycle.micro_batches() == MicroStep{0});
  CHECK(cycle.index() == CycleIndex{0});
  CHECK(weight_bits(parameters(model)) == bits_of(tensor_of({64, 1}, Numbers(64, 0), single)));
  CHECK(!optimizer.step(attempt()).skipped);
  CHECK(cycle.step() == Step{1});
}

TEST_CASE(
    "fixed point: a range learned from other gradients is exchanged where it loses too much") {
  const auto scaled = [](double factor) {
    return micro_gradients(16, 16, [=](int64_t k, int64_t w) { return factor * noise(k, w); });
  };
  // Up and down by more than an i64 has bits; the first range is 2¹⁶.
  Feed feed(accumulators::fixed_point(), 16);
  const double bound = accumulators::fixed_point()->error_bound(16);
  for (double factor : {1e-12, 1.0, 1e25, 1.0, 1e11, 1.0, 1e-30}) {
    CAPTURE(factor);
    const std::vector<Tensor> gradients = scaled(factor);
    const Exact exact = exact_sums(gradients);
    const Numbers sums = feed.cycle(gradients);
    const auto largest = static_cast<double>(*std::ranges::max_element(exact.absolute));
    for (size_t i = 0; i < 16; ++i)
      CHECK(std::abs(sums[i] - static_cast<double>(exact.sum[i])) <= bound * largest);
  }
}

TEST_CASE("fixed point keeps its range where gradients change little: no cycle runs twice") {
  Feed feed(accumulators::fixed_point(), 16);
  for (double factor : {1.0, 0.5, 2.0, 1e-3, 1e-2}) {
    for (const Tensor& one :
         micro_gradients(16, 16, [=](int64_t k, int64_t w) { return factor * noise(k, w); }))
      feed.micro(one);
    CHECK(!feed.close().empty());
  }
}

TEST_CASE("fixed point of f64 gradients that are nearly zero stays finite") {
  const Where wide{Device::reference(), DType::f64};
  Feed feed(accumulators::fixed_point(), 2, wide);
  const Tensor tiny = tensor_of({2}, {1e-300, -3e-300}, wide);
  const Numbers sums = feed.cycle({tiny, tiny});
  // Below the least range a unit is 2⁻⁹⁶²: coarser than these, and then they are zero.
  for (double sum : sums) CHECK(std::abs(sum) <= 0x1p-961);
}

}  // namespace accrue::test
