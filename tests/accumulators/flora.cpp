// Flora: linear, right on average over seeds, a fraction of the memory.
#include "../../examples/accumulators/flora.h"

#include "sums.h"

namespace accrue::test {
namespace {

using examples::Flora;

constexpr int64_t rows = 4, columns = 32, rank = 8;

Numbers flora(const Many& gradients, int64_t seed, Where where = {Device::cpu(), DType::f32},
              int64_t cycle = 0) {
  CycleFacts facts;
  facts.index = CycleIndex{cycle};
  return sum_of(std::make_shared<Flora>(rank, Seed{seed}), {rows, columns}, gradients, facts,
                where);
}

}  // namespace

TEST_CASE("the projected sum of gradients is the projection of their sum") {
  const Many gradients = random_gradients(16, rows * columns, 1);
  // f64: each of 16 additions and each of two products over at most 32 terms rounds once a term,
  // of sums that are some ten times as large as what is left of them.
  CHECK(relative_error(flora(gradients, 1, exact()), flora({exact_sum(gradients)}, 1, exact())) <
        10 * (16 + 32 + 8) * u_f64);
  CHECK(relative_error(flora(gradients, 1), flora({exact_sum(gradients)}, 1)) <
        10 * (16 + 32 + 8) * u_f32);
  CHECK(relative_error(flora(gradients, 1), exact_sum(gradients)) > 0.5);  // it is not the sum
}

TEST_CASE("each seed, each cycle has its own projection, the same whenever it is drawn") {
  const Many gradients = random_gradients(2, rows * columns, 1);
  CHECK(flora(gradients, 1) == flora(gradients, 1));
  CHECK(flora(gradients, 1) != flora(gradients, 2));
  CHECK(flora(gradients, 1) != flora(gradients, 1, {Device::cpu(), DType::f32}, 1));
}

TEST_CASE("the sum is right on average over seeds, with the variance that the rank gives") {
  constexpr int64_t seeds = 2000;
  const Many gradients{random_numbers(rows * columns, 1)};
  const Numbers& exact_numbers = gradients[0];
  Numbers mean(rows * columns);
  double squares = 0;
  for (int64_t seed = 0; seed < seeds; ++seed) {
    const Numbers sum = flora(gradients, seed);
    for (size_t i = 0; i < sum.size(); ++i) {
      mean[i] += sum[i] / seeds;
      squares += std::pow(sum[i] - exact_numbers[i], 2) / seeds;
    }
  }
  // E‖g·ΠᵀΠ − g‖² = ‖g‖²·(columns + 1)/rank; the mean over seeds has 1/seeds of it. The sum of
  // squares over seeds has a relative deviation of at most √(2/seeds)·3 for these sizes: within 10
  // %.
  const double expected = std::pow(norm(exact_numbers), 2) * (columns + 1) / rank;
  CHECK(squares == doctest::Approx(expected).epsilon(0.1));
  CHECK(relative_error(mean, exact_numbers) <
        1.2 * std::sqrt(static_cast<double>(columns + 1) / rank / seeds));
  // A wrong scale of the projection, by one part in five, would be seen.
  Numbers wrong = exact_numbers;
  for (double& one : wrong) one *= 1.2;
  CHECK(relative_error(mean, wrong) >
        1.2 * std::sqrt(static_cast<double>(columns + 1) / rank / seeds));
}

TEST_CASE("between micro-batches a matrix needs rows · rank numbers; narrow ones are kept whole") {
  const auto bytes = [] {
    return host_allocator().use().current[static_cast<int>(Tag::gradients)];
  };
  const int64_t before = bytes();
  OneBuffer one(std::make_shared<Flora>(rank), {rows, columns});
  CHECK(bytes() - before == rows * rank * 4);
  one.add(random_tensor({rows, columns}, {Device::cpu(), DType::f32}, 1));
  CHECK(bytes() - before == rows * rank * 4);
  one.finish();
  CHECK(bytes() - before == rows * (rank + columns) * 4);
  one.clear();
  CHECK(bytes() - before == rows * rank * 4);

  const Many narrow = random_gradients(3, 12, 1);
  CHECK(sum_of(std::make_shared<Flora>(4), {3, 4}, narrow) ==
        sum_of(accumulators::f32(), {3, 4}, narrow));
}

TEST_CASE("a model learns with Flora, chosen by pattern beside other accumulators") {
  Gpt model(tiny_gpt());
  initialize(model, {Device::cpu()}, Seed{1});
  AdamW adam(parameters(model), {.lr = 1e-2});
  Cycle cycle(parameters(model), {.accumulate = {{"*.weight", std::make_shared<Flora>(4)},
                                                 {"*", accumulators::kahan()}}});
  const TokenBatch batch = token_batch(model.config, 6, Device::cpu(), 1);
  double first = 0, last = 0;
  for (int step = 0; step < 30; ++step) {
    last = adam.step(cycle.run(batch, {.samples = 2}, chunked_loss(model))).mean_loss;
    if (step == 0) first = last;
  }
  CHECK(last < 0.9 * first);
}

}  // namespace accrue::test
