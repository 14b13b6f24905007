// Gpt: its parts, what a position may see, and sampling.
#include <algorithm>
#include <functional>

#include "support.h"

namespace accrue::test {
namespace {

const Where where{Device::cpu(), DType::f32};

Gpt made(const GptConfig& config, Where at = where) {
  Gpt model(config);
  initialize(model, {at.device, at.dtype}, Seed{1});
  return model;
}

std::vector<GptConfig> configs() {
  std::vector<GptConfig> all;
  for (Positions positions : {Positions::learned, Positions::rope})
    for (NormKind norm : {NormKind::layer_norm, NormKind::rms_norm})
      for (Activation activation : {Activation::gelu, Activation::swiglu})
        for (bool tied : {true, false}) {
          GptConfig config = tiny_gpt();
          config.positions = positions, config.norm = norm;
          config.activation = activation, config.tied = tied;
          all.push_back(config);
        }
  return all;
}

}  // namespace

TEST_CASE("GPT-2's own configuration has GPT-2's number of parameters") {
  const Gpt gpt2({.layers = 12, .heads = 12, .width = 768, .context = 1024, .vocabulary = 50257});
  const ModeScope dry(Mode::dry);
  Gpt model(gpt2.config);
  initialize(model, {where.device, where.dtype}, Seed{1});
  CHECK(parameters(model).elements() == 124'439'808);
}

TEST_CASE("the optional parts are there if and only if they are asked for") {
  for (const GptConfig& config : configs()) {
    const Gpt model = made(config);
    const Parameters all = parameters(model);
    CHECK(all.matching("transformer.wpe.weight").size() ==
          (config.positions == Positions::learned));
    CHECK(all.matching("*.ln_1.bias").size() == (config.norm == NormKind::layer_norm ? 2 : 0));
    CHECK(all.matching("*.c_gate.weight").size() ==
          (config.activation == Activation::swiglu ? 2 : 0));
    CHECK(all.matching("lm_head.weight").size() == !config.tied);
  }
}

TEST_CASE("no position sees a later one, and no sequence another") {
  for (const GptConfig& config : configs()) {
    const Gpt model = made(config, exact());
    std::vector<int32_t> ids{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 1};
    const auto logits = [&] {
      return model(ids_of({2, 6}, ids, exact().device)).value().to_vector();
    };
    const Numbers before = logits();
    ids[3] = 0;  // the fourth token of the first sequence
    const Numbers after = logits();
    for (int64_t position = 0; position < 12; ++position) {
      bool same = true;
      for (int64_t v = 0; v < 11; ++v)
        same = same && before[position * 11 + v] == after[position * 11 + v];
      CHECK(same == (position < 3 || position >= 6));
    }
  }
}

TEST_CASE("positions matter") {
  for (const GptConfig& config : configs()) {
    const Gpt model = made(config, exact());
    const Numbers y = model(ids_of({1, 3}, {4, 5, 4}, exact().device)).value().to_vector();
    CHECK(Numbers(y.begin(), y.begin() + 11) != Numbers(y.begin() + 22, y.end()));
    const Numbers swapped = model(ids_of({1, 3}, {5, 4, 4}, exact().device)).value().to_vector();
    CHECK(relative_error(Numbers(swapped.begin() + 22, swapped.end()),
                         Numbers(y.begin() + 22, y.end())) > 1e-9);
  }
}

TEST_CASE("a shorter sequence has the same logits as the beginning of a longer one") {
  for (const GptConfig& config : configs()) {
    const Gpt model = made(config, exact());
    const Numbers longer =
        model(ids_of({1, 6}, {1, 2, 3, 4, 5, 6}, exact().device)).value().to_vector();
    const Numbers shorter = model(ids_of({1, 4}, {1, 2, 3, 4}, exact().device)).value().to_vector();
    CHECK(relative_error(shorter, Numbers(longer.begin(), longer.begin() + 44)) <= 64 * u_f64);
  }
}

TEST_CASE("configurations that cannot be are refused, and say what could") {
  const auto refused = [](auto change) {
    GptConfig config = tiny_gpt();
    change(config);
    return message_of<BadArgument>([&] { Gpt model(config); });
  };
  CHECK(contains(refused([](auto& c) { c.layers = 0; }), "layers"));
  CHECK(contains(refused([](auto& c) { c.heads = 0; }), "heads"));
  CHECK(contains(refused([](auto& c) { c.width = -8; }), "width"));
  CHECK(contains(refused([](auto& c) { c.context = 0; }), "context"));
  CHECK(contains(refused([](auto& c) { c.vocabulary = 0; }), "vocabulary"));
  CHECK(contains(refused([](auto& c) { c.heads = 3; }), "try 2 heads, or a width of 9"));
  CHECK(contains(refused([](auto& c) { c.width = 6, c.positions = Positions::rope; }), "rotary"));
  CHECK(contains(refused([](auto& c) { c.dropout = 1; }), "dropout"));
  const Gpt model = made(tiny_gpt());
  CHECK(contains(message_of<BadArgument>([&] {
                   model(ids_of({1, 7}, {1, 2, 3, 4, 5, 6, 7}, where.device));
                 }),
                 "context"));
  CHECK_THROWS_AS(model(ids_of({3}, {1, 2, 3}, where.device)), BadArgument);
}

TEST_CASE("sampling: the seed decides the text, temperature 0 and the best token alone agree") {
  const Gpt model = made(tiny_gpt());
  const auto text_of = [&](Sampling how, int64_t seed) {
    return sample(model, {1, 2}, 20, how, Seed{seed});
  };
  const auto greedy = text_of({.temperature = 0}, 1);
  CHECK(greedy.size() == 22);
  CHECK(greedy == text_of({.temperature = 0}, 2));
  CHECK(greedy == text_of({.temperature = 5, .top_k = 1}, 3));
  CHECK(text_of({}, 1) == text_of({}, 1));
  CHECK(text_of({.temperature = 10}, 1) != text_of({.temperature = 10}, 2));
  CHECK(text_of({}, 1) == text_of({.top_k = 11}, 1));
  CHECK(text_of({}, 1) == text_of({.top_k = 99}, 1));
}

TEST_CASE("sampled tokens are as frequent as their probabilities, among the top k only") {
  const Gpt model = made(tiny_gpt());
  const Numbers logits =
      matmul_transposed(model.hidden(ids_of({1, 1}, {3}, where.device)), model.head())
          .value()
          .to_vector();
  constexpr int n = 2000;
  constexpr double temperature = 0.05;  // far from uniform: these logits are small
  for (int64_t k : {0, 3}) {
    Numbers sorted = logits;
    std::ranges::sort(sorted, std::greater<>());
    const double least = k ? sorted[k - 1] : sorted.back();
    double total = 0;
    for (double x : logits) total += x >= least ? std::exp(x / temperature) : 0;
    Numbers found(11, 0);
    for (int seed = 0; seed < n; ++seed)
      found[sample(model, {3}, 1, {.temperature = temperature, .top_k = k}, Seed{seed})[1]] +=
          1.0 / n;
    for (int v = 0; v < 11; ++v) {
      const double p = logits[v] >= least ? std::exp(logits[v] / temperature) / total : 0;
      CHECK(std::abs(found[v] - p) <= 5 * std::sqrt(p * (1 - p) / n));
    }
  }
}

TEST_CASE("sampling inside of a scope records nothing; a prompt must have a token") {
  const Gpt model = made(tiny_gpt());
  Cycle cycle(parameters(model));
  const TokenBatch batch = token_batch(model.config, 2, where.device, 1);
  {
    MicroScope scope = cycle.begin(batch);
    CHECK(sample(model, {1}, 3, {}, Seed{1}).size() == 4);
    scope.backward(cross_entropy(model(batch.tokens), batch.targets));
  }
  const ClosedCycle closed = cycle.close();
  Cycle plain(parameters(model));
  const ClosedCycle expected = plain.run(batch, {.samples = 2}, [&](const TokenBatch& b) {
    return cross_entropy(model(b.tokens), b.targets);
  });
  CHECK(sums_of(closed) == sums_of(expected));
  CHECK_THROWS_AS(sample(model, {}, 3, {}, Seed{1}), BadArgument);
  CHECK_THROWS_AS(sample(model, {1}, 3, {.temperature = -1}, Seed{1}), BadArgument);
}

TEST_CASE("two hundred steps learn a sequence by heart") {
  GptConfig config = tiny_gpt();
  config.width = 16;
  Gpt model = made(config);
  const std::vector<int32_t> text{1, 4, 9, 5, 3, 3, 5, 9, 4, 1, 0, 1, 4};
  TokenBatch batch{ids_of({2, 6}, {text.begin(), text.begin() + 12}, where.device),
                   ids_of({2, 6}, {text.begin() + 1, text.begin() + 13}, where.device),
                   {0, 1}};
  AdamW optimizer(parameters(model), {.lr = 0.01, .clip = 1});
  Cycle cycle(parameters(model));
  double loss = 0;
  for (int i = 0; i < 200; ++i)
    loss = optimizer.step(cycle.run(batch, {.samples = 1}, chunked_loss(model))).mean_loss;
  CHECK(loss < 0.05);
}

}  // namespace accrue::test
