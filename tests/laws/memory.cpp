// Law 4: peak memory does not depend on K. The dry run: what it predicts is what the allocator
// hands out, to the byte.
#include "support.h"

namespace accrue::test {
namespace {

using Peaks = std::array<int64_t, tag_count + 1>;  // by tag; last: of all at one moment

constexpr const char* tree = "tree";  // whose memory grows with log₂K

struct Work {
  const char* name;
  Where where{Device::cpu(), DType::f32};
  Recompute recompute = Recompute::none;
  const char* accumulate = "f32";
  double dropout = 0;
  int64_t chunk = 256;
  int64_t layers = 4;
};

std::string text_of(const Peaks& peaks) {
  std::string all;
  for (int i = 0; i < tag_count; ++i) all += text(tag_names[i], ' ', peaks[i], ", ");
  return all + text("total ", peaks[tag_count]);
}

// Everything that a program does in its life, once: model, data, cycle, optimizer, two steps.
void train(const Work& work, int64_t samples, int64_t micro) {
  GptConfig config = tiny_gpt();
  config.layers = work.layers;
  config.recompute = work.recompute;
  config.dropout = work.dropout;
  Gpt model(config);
  initialize(model, {work.where.device, work.where.dtype}, Seed{1});
  TokenBatch batch{Tensor({samples, config.context}, DType::i32, work.where.device),
                   Tensor({samples, config.context}, DType::i32, work.where.device),
                   {}};
  batch.indices.resize(samples);
  for (Tensor* ids : {&batch.tokens, &batch.targets})
    launch(ids->device(), kernel::Fill{ids->out(), 1});
  AdamW optimizer(parameters(model), {.clip = 1});
  Cycle cycle(parameters(model), {.accumulate = accumulators::parse(work.accumulate)});
  for (int step = 0; step < 2; ++step)
    optimizer.step(cycle.run(batch, {.samples = micro}, [&](const TokenBatch& part) {
      return cross_entropy(model.hidden(part.tokens), model.head(), part.targets, -100, work.chunk);
    }));
}

template <class F>
Peaks peaks_of(Mode mode, const F& program) {
  const bool dry = mode == Mode::dry;
  const ModeScope scope(mode);
  host_allocator().reset_peak(dry);
  const MemoryUse before = host_allocator().use(dry);
  program();
  const MemoryUse after = host_allocator().use(dry);
  Peaks peaks;
  for (int i = 0; i < tag_count; ++i) {
    CHECK_MESSAGE(after.current[i] == before.current[i], tag_names[i] << " leaks");
    peaks[i] = after.peak[i] - before.current[i];
  }
  peaks[tag_count] = after.peak_total - before.total;
  return peaks;
}

int64_t of(const Peaks& peaks, Tag tag) { return peaks[static_cast<int>(tag)]; }

std::vector<Work> works() {
  const Where half{Device::cpu(), DType::bf16};
  return {{"f32"},
          {.name = "bf16", .where = half},
          {.name = "f16", .where = {Device::cpu(), DType::f16}},
          {.name = "f64 on reference", .where = exact()},
          {.name = "dropout", .dropout = 0.1},
          {.name = "each block again", .recompute = Recompute::block, .dropout = 0.1},
          {.name = "groups of blocks again", .recompute = Recompute::sqrt},
          {.name = "each block again, bf16", .where = half, .recompute = Recompute::block},
          {.name = "chunked loss", .chunk = 7},
          {.name = "chunked loss, bf16", .where = half, .chunk = 7},
          {.name = "kahan", .accumulate = "kahan"},
          {.name = "kahan, bf16", .where = half, .accumulate = "kahan"},
          {.name = "bf16 sums", .accumulate = "bf16:*.weight"},
          {.name = "f64 sums", .accumulate = "f64"},
          {.name = "stochastic sums, bf16", .where = half, .accumulate = "bf16_stochastic"},
          {.name = "fixed point", .accumulate = "fixed_point"},
          {.name = "tree", .accumulate = tree}};
}

}  // namespace

TEST_CASE("a dry run predicts the peak of every tag to the byte") {
  for (const Work& work : works())
    for (int64_t micro : {8, 3}) {
      CAPTURE(work.name);
      CAPTURE(micro);
      const auto program = [&] { train(work, 8, micro); };
      const Peaks predicted = peaks_of(Mode::dry, program), real = peaks_of(Mode::run, program);
      CHECK_MESSAGE(predicted == real,
                    "predicted " << text_of(predicted) << "; real " << text_of(real));
      CHECK(of(real, Tag::activations) > 0);
      CHECK(of(real, Tag::parameters) > 0);
    }
}

TEST_CASE("a dry run takes no memory and leaves the real ledger alone") {
  const MemoryUse before = host_allocator().use();
  host_allocator().reset_peak();
  peaks_of(Mode::dry, [] { train({"f32"}, 4, 2); });
  CHECK(host_allocator().use().peak_total == before.total);
}

TEST_CASE("peak memory does not depend on K, tag by tag, but for records beyond 32 micro-batches") {
  for (const Work& work : works()) {
    if (work.accumulate == tree) continue;
    CAPTURE(work.name);
    // The batch itself grows with K: it is the data, tagged activations, and taken off.
    const auto of_data = [](int64_t samples) {
      return 2 * samples * tiny_gpt().context * static_cast<int64_t>(size_of(DType::i32));
    };
    const auto peaks = [&](int64_t k) {
      Peaks all = peaks_of(Mode::run, [&] { train(work, 2 * k, 2); });
      all[static_cast<int>(Tag::activations)] -= of_data(2 * k);
      all[tag_count] -= of_data(2 * k);
      return all;
    };
    const Peaks one = peaks(1);
    for (int64_t k : {2, 3, 8, 32}) {
      CAPTURE(k);
      const Peaks more = peaks(k);
      CHECK_MESSAGE(more == one, "K = 1: " << text_of(one) << "; now " << text_of(more));
    }
    // Beyond, there is a table of twice as many records, 16 bytes each, beside the old one.
    Peaks more = peaks(40);
    const auto gradients = static_cast<int>(Tag::gradients);
    for (int part : {gradients, tag_count}) {
      CHECK(more[part] > one[part]);
      CHECK(more[part] - one[part] <= 40 * 48);
      more[part] = one[part];
    }
    CHECK_MESSAGE(more == one, "K = 1: " << text_of(one) << "; now " << text_of(more));
  }
}

TEST_CASE(
    "a program that keeps its micro-batches' losses grows with K, if only by their four bytes") {
  Gpt model(tiny_gpt());
  initialize(model, {Device::cpu(), DType::f32}, Seed{1});
  Cycle cycle(parameters(model));
  const auto activations = [&](int64_t k) {
    const TokenBatch batch = token_batch(model.config, k, Device::cpu(), 1);
    return of(peaks_of(Mode::run,
                       [&] {
                         std::vector<Loss> kept;
                         (void)cycle.run(batch, {.samples = 1}, [&](const TokenBatch& micro) {
                           kept.push_back(chunked_loss(model)(micro));
                           return kept.back();
                         });
                       }),
              Tag::activations);
  };
  (void)cycle.run(token_batch(model.config, 1, Device::cpu(), 1), {.samples = 1},
                  chunked_loss(model));  // packs of the weights stay for the model's life
  CHECK(activations(8) - activations(2) == 6 * (4 + 8));  // a sum in f32, a count in i64
}

TEST_CASE("what grows is the micro-batch: one batch of sixteen takes more than sixteen of one") {
  const Work work{"f32"};
  const Peaks one = peaks_of(Mode::dry, [&] { train(work, 16, 1); });
  const Peaks all = peaks_of(Mode::dry, [&] { train(work, 16, 16); });
  CHECK(of(all, Tag::activations) > 8 * of(one, Tag::activations));
  CHECK(of(all, Tag::gradients) == of(one, Tag::gradients));
}

TEST_CASE("bytes are where they belong") {
  GptConfig config = tiny_gpt();
  config.layers = 4;
  Gpt model(config);
  initialize(model, {Device::cpu(), DType::f32}, Seed{1});
  // Two totals and 32 records in f64, and the loss's own gradient.
  const int64_t n = parameters(model).elements(), figures = 16 + 512 + 4;
  const Peaks single = peaks_of(Mode::dry, [] { train({"f32"}, 4, 2); });
  CHECK(of(single, Tag::parameters) == 4 * n);
  CHECK(of(single, Tag::gradients) == 4 * n + figures);
  CHECK(of(single, Tag::optimizer) == 8 * n);
  const Peaks half = peaks_of(Mode::dry, [] {
    train({.name = "bf16", .where = {Device::cpu(), DType::bf16}}, 4, 2);
  });
  CHECK(of(half, Tag::parameters) == 4 * n);
  CHECK(of(half, Tag::gradients) == 4 * n + figures);
  CHECK(of(half, Tag::copies) >= 2 * n);
  CHECK(of(half, Tag::activations) < of(single, Tag::activations));
}

TEST_CASE("recomputation saves activations; kahan costs one sum more and one micro-gradient") {
  const auto activations = [](Recompute how) {
    Work work{"f32"};
    work.recompute = how;
    work.layers = 9;
    return of(peaks_of(Mode::dry, [&] { train(work, 8, 8); }), Tag::activations);
  };
  const int64_t none = activations(Recompute::none), block = activations(Recompute::block),
                sqrt = activations(Recompute::sqrt);
  CHECK(block < none / 2);
  CHECK(sqrt < none);
  Gpt model(tiny_gpt());
  initialize(model, {Device::cpu(), DType::f32}, Seed{1});
  Work kahan{"kahan"};
  kahan.layers = 2;
  kahan.accumulate = "kahan";
  const int64_t bytes = of(peaks_of(Mode::dry, [&] { train(kahan, 4, 2); }), Tag::gradients);
  const int64_t n = parameters(model).elements();
  CHECK(bytes > 8 * n + 16);
  CHECK(bytes < 12 * n + 16);
}

TEST_CASE("after a dry cycle over a real model, it trains to the same bits") {
  for (DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const auto bits = [dtype](bool dry_first) {
      const GptConfig config = tiny_gpt();
      Gpt model(config);
      initialize(model, {Device::cpu(), dtype}, Seed{1});
      const TokenBatch batch = token_batch(config, 4, Device::cpu(), 5, {6, 2, 5, 6});
      AdamW optimizer(parameters(model), {.lr = 0.01});
      Cycle cycle(parameters(model));
      const auto run = [&] { return cycle.run(batch, {.samples = 2}, chunked_loss(model)); };
      if (dry_first) {
        const ModeScope dry(Mode::dry);
        (void)run();
      }
      optimizer.step(run());
      return weight_bits(parameters(model));
    };
    CAPTURE(name_of(dtype));
    CHECK(bits(true) == bits(false));
  }
}

}  // namespace accrue::test
