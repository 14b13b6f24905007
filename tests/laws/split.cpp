// Law 1: any split of an effective batch, ragged ones included, equals one batch, as far as the
// accumulator declares. Its negative controls: what people write by mistake must fail the same
// test.
#include <memory>

#include "support.h"

namespace accrue::test {
namespace {

using Sizes = std::vector<int64_t>;
const std::vector<Sizes> splits{{4, 4}, {1, 7}, {7, 1}, {3, 1, 1, 3}, {1, 1, 1, 1, 1, 1, 1, 1}};
// Ragged twice over: sequences of different lengths in micro-batches of different sizes.
const Sizes valid{6, 1, 4, 6, 0, 2, 5, 3};

GptConfig with_dropout() {
  GptConfig config = tiny_gpt();
  config.dropout = 0.2;
  return config;
}

struct Stage {
  Gpt model;
  TokenBatch batch;
  explicit Stage(Where where, const GptConfig& config = with_dropout())
      : model(config), batch(token_batch(config, 8, where.device, 5, valid)) {
    initialize(model, {where.device, where.dtype}, Seed{1});
  }
  ClosedCycle run(Cycle& cycle, const Sizes& sizes) const {
    return run_by_hand(cycle, batch, sizes, chunked_loss(model));
  }
};

// Σ|g_k|, element by element, over the micro-batches of a split: what an accumulator's bound is of.
// The cycle's index is the same for each, so dropout is too.
Many absolute_sum(const Stage& stage, const Sizes& sizes) {
  Many total;
  int64_t first = 0;
  for (int64_t size : sizes) {
    Cycle cycle(parameters(stage.model));
    const Many one = sums_of(
        run_by_hand(cycle, stage.batch.slice(first, size), {size}, chunked_loss(stage.model)));
    first += size;
    if (total.empty())
      for (const Numbers& numbers : one) total.emplace_back(numbers.size(), 0);
    for (size_t i = 0; i < one.size(); ++i)
      for (size_t e = 0; e < one[i].size(); ++e) total[i][e] += std::abs(one[i][e]);
  }
  return total;
}

// max over tensors of ‖a − b‖ / ‖scale‖.
double error_over(const Many& a, const Many& b, const Many& scale) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    Numbers off(a[i].size());
    for (size_t e = 0; e < off.size(); ++e) off[e] = a[i][e] - b[i][e];
    worst = std::max(worst, norm(off) / norm(scale[i]));
  }
  return worst;
}

using Make = std::unique_ptr<Optimizer> (*)(const Parameters&);
struct Optimizers {
  const char* name;
  Make make;
};
// Adam divides by √v + ε. Where a gradient is rounding noise alone (a key's bias), a small ε would
// make a step of it; with this one a step is at most lr/ε times as wrong as its gradient.
const Optimizers optimizers[]{
    {"SGD",
     [](const Parameters& p) -> std::unique_ptr<Optimizer> {
       return std::make_unique<Sgd>(p, SgdConfig{.lr = 0.1, .momentum = 0.9, .clip = 1});
     }},
    {"Adam",
     [](const Parameters& p) -> std::unique_ptr<Optimizer> {
       return std::make_unique<Adam>(p, AdamConfig{.lr = 0.01, .epsilon = 0.01, .clip = 1});
     }},
    {"AdamW",
     [](const Parameters& p) -> std::unique_ptr<Optimizer> {
       return std::make_unique<AdamW>(
           p, AdamConfig{.lr = 0.01, .epsilon = 0.01, .weight_decay = 0.1, .clip = 1});
     }},
};

// The weights after three cycles of this split.
Many trained(Where where, const Sizes& sizes, const Optimizers& which,
             const std::shared_ptr<const Accumulator>& accumulator) {
  Stage stage(where);
  const auto optimizer = which.make(parameters(stage.model));
  Cycle cycle(parameters(stage.model), {.accumulate = {{"*", accumulator}}});
  for (int i = 0; i < 3; ++i) CHECK(!optimizer->step(stage.run(cycle, sizes)).skipped);
  return weights_of(parameters(stage.model));
}

// A mean over micro-batches of their means: the mistake that most trainers had until 2024.
Many mean_of_means(const Stage& stage, const Sizes& sizes) {
  Many result;
  int64_t first = 0;
  for (int64_t size : sizes) {
    Cycle cycle(parameters(stage.model));
    const ClosedCycle closed =
        run_by_hand(cycle, stage.batch.slice(first, size), {size}, chunked_loss(stage.model));
    first += size;
    const double weight = 1 / (closed.count() * static_cast<double>(sizes.size()));
    const Many sums = sums_of(closed);
    if (result.empty())
      for (const Numbers& numbers : sums) result.emplace_back(numbers.size(), 0);
    for (size_t i = 0; i < sums.size(); ++i)
      for (size_t e = 0; e < sums[i].size(); ++e) result[i][e] += weight * sums[i][e];
  }
  return result;
}

Many mean_of(const ClosedCycle& closed) {
  Many mean = sums_of(closed);
  for (Numbers& one : mean)
    for (double& number : one) number /= closed.count();
  return mean;
}

constexpr double law = 1e-12;  // in f64

}  // namespace

TEST_CASE("any split, ragged or not, equals one batch to 1e-12 in f64, dropout on, weights tied") {
  const Stage stage(exact());
  Cycle one(parameters(stage.model));
  const ClosedCycle whole = stage.run(one, {8});
  const Many expected = sums_of(whole);
  for (const Sizes& sizes : splits) {
    Cycle cycle(parameters(stage.model));
    const ClosedCycle closed = stage.run(cycle, sizes);
    CAPTURE(text_of(exact()));
    CAPTURE(sizes.size());
    CHECK(closed.micro_batches() == MicroStep{static_cast<int64_t>(sizes.size())});
    CHECK(closed.count() == whole.count());
    CHECK(std::abs(closed.mean_loss() / whole.mean_loss() - 1) <= law);
    CHECK(relative_error(sums_of(closed), expected) <= law);
  }
}

TEST_CASE("the same for every architecture of Gpt") {
  for (Positions positions : {Positions::learned, Positions::rope})
    for (NormKind norm : {NormKind::layer_norm, NormKind::rms_norm})
      for (Activation activation : {Activation::gelu, Activation::swiglu}) {
        GptConfig config = with_dropout();
        config.positions = positions;
        config.norm = norm;
        config.activation = activation;
        config.tied = norm == NormKind::rms_norm;
        const Stage stage(exact(), config);
        Cycle one(parameters(stage.model)), other(parameters(stage.model));
        CHECK(relative_error(sums_of(stage.run(one, {8})), sums_of(stage.run(other, {1, 7}))) <=
              law);
      }
}

TEST_CASE("a mean of means fails the law") {
  const Stage stage(exact());
  Cycle one(parameters(stage.model));
  const Many expected = mean_of(stage.run(one, {8}));
  CHECK(relative_error(mean_of_means(stage, {8}), expected) <= law);
  CHECK(relative_error(mean_of_means(stage, {1, 7}), expected) > 0.01);
  CHECK(relative_error(mean_of_means(stage, {4, 4}), expected) > 0.01);  // of unequal token counts
}

TEST_CASE("the last micro-batch alone, or a divisor that was configured, fails the law") {
  const Stage stage(exact());
  Cycle one(parameters(stage.model)), last(parameters(stage.model));
  const ClosedCycle whole = stage.run(one, {8});
  const Many alone =
      mean_of(run_by_hand(last, stage.batch.slice(4, 4), {4}, chunked_loss(stage.model)));
  CHECK(relative_error(alone, mean_of(whole)) > 0.01);
  Many by_rows = sums_of(whole);  // all tokens, padding included
  for (Numbers& numbers : by_rows)
    for (double& number : numbers) number /= 8 * 6;
  CHECK(relative_error(by_rows, mean_of(whole)) > 0.01);
}

TEST_CASE("dropout that depended on the split would fail the law") {
  const Stage stage(exact());
  TokenBatch renumbered = stage.batch;  // as if samples were counted within each micro-batch
  for (size_t i = 0; i < renumbered.indices.size(); ++i) renumbered.indices[i] = i % 4;
  Cycle one(parameters(stage.model)), other(parameters(stage.model));
  const Many expected = sums_of(stage.run(one, {8}));
  const Many local = sums_of(run_by_hand(other, renumbered, {4, 4}, chunked_loss(stage.model)));
  CHECK(relative_error(local, expected) > 0.01);
}

TEST_CASE(
    "after three steps the weights of any split equal one batch's: every optimizer, accumulator") {
  for (const Optimizers& which : optimizers)
    for (const auto& accumulator : {accumulators::f32(), accumulators::kahan()}) {
      CAPTURE(which.name);
      CAPTURE(accumulator->name());
      const Many expected = trained(exact(), {8}, which, accumulator);
      for (const Sizes& sizes : {Sizes{1, 7}, Sizes{3, 1, 1, 3}})
        // Three steps, each lr/ε = 1 times as wrong as its gradient at most.
        CHECK(relative_error(trained(exact(), sizes, which, accumulator), expected) <= 3 * law);
    }
}

TEST_CASE("bf16 sums: the weights of a split are as far off as bf16 rounds, and not nearer") {
  for (const Optimizers& which : optimizers) {
    const Many expected = trained(exact(), {8}, which, accumulators::f32());
    const double error =
        relative_error(trained(exact(), {3, 1, 1, 3}, which, accumulators::bf16()), expected);
    CHECK(error > law);
    // Three steps of 0.1 at most, on weights whose norm is no smaller than that of one such step.
    CHECK(error <= 3 * 8 * u_bf16);
  }
}

// A micro-gradient itself is a chain of sums in f32: forward and backward pass about 2·(6·layers +
// 4) operations, each with sums of up to 48 terms, whose errors are as good as random (√48 ≈ 7
// roundings).
constexpr double chain = 2 * (6 * 2 + 4) * 7;

TEST_CASE("in f32 on the cpu a split is within the accumulator's bound of one batch") {
  const Stage stage({Device::cpu(), DType::f32});
  Stage reference(exact());
  assign(reference.model, stage.model);
  for (const auto& accumulator :
       {accumulators::f32(), accumulators::kahan(), accumulators::bf16()}) {
    CAPTURE(accumulator->name());
    Cycle one(parameters(reference.model));
    const Many expected = sums_of(reference.run(one, {8}));
    for (const Sizes& sizes : splits) {
      Cycle cycle(parameters(stage.model), {.accumulate = {{"*", accumulator}}});
      const Many actual = sums_of(stage.run(cycle, sizes));
      // A fused sum is added to by each deposit: tied weights have one per chunk and one per token.
      const auto deposits =
          static_cast<int64_t>(accumulator->fused() ? 48 + 48 / 5 + 8 : sizes.size());
      const double bound = accumulator->error_bound(deposits) + chain * u_f32;
      CHECK(error_over(actual, expected, absolute_sum(reference, sizes)) <= bound);
    }
  }
}

TEST_CASE("in bf16 on the cpu a split differs from one batch by f32's rounding of the sums alone") {
  // Forward works row by row and is the same in any split. In backward only the weights' sums
  // differ, and those are kept in f32: bf16's own unit of 2⁻⁸ may not show.
  GptConfig config = with_dropout();
  const Stage stage({Device::cpu(), DType::bf16}, config);
  Cycle one(parameters(stage.model));
  const Many expected = sums_of(stage.run(one, {8}));
  for (const Sizes& sizes : splits) {
    Cycle cycle(parameters(stage.model));
    const Many scale = absolute_sum(stage, sizes);
    CHECK(error_over(sums_of(stage.run(cycle, sizes)), expected, scale) <= 0.1 * u_bf16);
  }
}

TEST_CASE("micro-batch sizes that do not divide the batch are the ragged case of run()") {
  const Stage stage(exact());
  Cycle one(parameters(stage.model));
  const Many expected = sums_of(one.run(stage.batch, {.samples = 8}, chunked_loss(stage.model)));
  for (int64_t size : {3, 5, 7}) {
    Cycle cycle(parameters(stage.model));
    const ClosedCycle closed = cycle.run(stage.batch, {.samples = size}, chunked_loss(stage.model));
    CHECK(closed.micro_batches().value == (8 + size - 1) / size);
    CHECK(relative_error(sums_of(closed), expected) <= law);
  }
}

TEST_CASE("a micro-batch that is all padding leaves every accumulator bit for bit as it was") {
  for (Where where : {exact(), Where{Device::cpu(), DType::f32}, Where{Device::cpu(), DType::bf16}})
    for (const auto& accumulator : accumulators::all()) {
      CAPTURE(text_of(where));
      CAPTURE(accumulator->name());
      const Stage stage(where);
      Cycle with(parameters(stage.model), {.accumulate = {{"*", accumulator}}});
      Cycle without(parameters(stage.model), {.accumulate = {{"*", accumulator}}});
      const TokenBatch padding = token_batch(stage.model.config, 2, where.device, 9, {0, 0});
      TokenBatch first = stage.batch.slice(0, 3);
      for (Cycle* cycle : {&with, &without}) {
        MicroScope scope = cycle->begin(first);
        scope.backward(chunked_loss(stage.model)(first));
      }
      {
        MicroScope scope = with.begin(padding);
        scope.backward(chunked_loss(stage.model)(padding));
      }
      const ClosedCycle a = with.close(), b = without.close();
      CHECK(a.count() == b.count());
      CHECK(a.mean_loss() == b.mean_loss());
      for (size_t i = 0; i < a.buffers().size(); ++i)
        CHECK(bits_of(a.buffers()[i]->state("sum")) == bits_of(b.buffers()[i]->state("sum")));
    }
}

}  // namespace accrue::test
