// Recomputation and chunks change what is kept, never what comes out: the same bits.
#include "support.h"

namespace accrue::test {
namespace {

const Where wheres[]{{Device::cpu(), DType::f32}, {Device::cpu(), DType::bf16}, exact()};

// The bits of all that a cycle says, after one step.
std::string result(Where where, Recompute recompute, double dropout,
                   const char* accumulator = "f32", int64_t seed = 1) {
  GptConfig config = tiny_gpt();
  config.layers = 5;  // not a square: the last group of blocks is smaller
  config.dropout = dropout;
  config.recompute = recompute;
  Gpt model(config);
  initialize(model, {where.device, where.dtype}, Seed{seed});
  const TokenBatch batch = token_batch(config, 5, where.device, 5);
  Cycle cycle(parameters(model), {.accumulate = accumulators::parse(accumulator)});
  AdamW optimizer(parameters(model));
  std::string bits;
  for (int step = 0; step < 2; ++step) {
    ClosedCycle closed = cycle.run(batch, {.samples = 2}, chunked_loss(model));
    for (const auto& buffer : closed.buffers()) bits += bits_of(buffer->state("sum"));
    bits += text(closed.mean_loss());
    optimizer.step(std::move(closed));
  }
  return bits + weight_bits(parameters(model));
}

}  // namespace

TEST_CASE("recomputation gives the same bits, dropout on") {
  for (Where where : wheres)
    for (const char* accumulator : {"f32", "kahan"}) {
      CAPTURE(text_of(where));
      const std::string expected = result(where, Recompute::none, 0.3, accumulator);
      CHECK(result(where, Recompute::block, 0.3, accumulator) == expected);
      CHECK(result(where, Recompute::sqrt, 0.3, accumulator) == expected);
    }
}

TEST_CASE("the same program gives the same bits twice; another seed gives others") {
  for (Where where : wheres) {
    CHECK(result(where, Recompute::none, 0.3) == result(where, Recompute::none, 0.3));
    CHECK(result(where, Recompute::none, 0.3) != result(where, Recompute::none, 0.3, "f32", 2));
  }
}

TEST_CASE("dropout draws anew in each cycle and for each sample") {
  GptConfig config = tiny_gpt();
  config.dropout = 0.3;
  Gpt model(config);
  initialize(model, {exact().device, exact().dtype}, Seed{1});
  const TokenBatch batch = token_batch(config, 2, exact().device, 5);
  Cycle cycle(parameters(model));
  const auto run = [&](const TokenBatch& b) {
    return sums_of(cycle.run(b, {.samples = 1}, chunked_loss(model)));
  };
  const Many first = run(batch), second = run(batch);
  CHECK(relative_error(first, second) > 0.01);
  TokenBatch renumbered = batch;
  renumbered.indices = {5, 6};
  Cycle again(parameters(model)), other(parameters(model));
  CHECK(sums_of(again.run(batch, {.samples = 1}, chunked_loss(model))) == first);
  CHECK(relative_error(sums_of(other.run(renumbered, {.samples = 1}, chunked_loss(model))), first) >
        0.01);
}

}  // namespace accrue::test
