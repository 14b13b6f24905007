#include "gradients.h"

#include <algorithm>

#include "../train_gpt/options.h"

namespace accrue::examples {
namespace {

/// Adds as f32 does, and keeps the first rows of each micro-gradient.
struct Recorder final : Accumulator {
  std::vector<Tensor>& kept;
  int64_t rows;

  Recorder(std::vector<Tensor>& to, int64_t r) : kept(to), rows(r) {}
  std::string_view name() const override { return "recorder"; }
  bool fused() const override { return false; }
  bool whole_micro() const override { return true; }
  double error_bound(int64_t k) const override { return static_cast<double>(k - 1) * 0x1p-24; }
  void fold(GradBuffer& buffer, In micro, Write write) const override {
    Accumulator::fold(buffer, micro, write);
    const Tensor part = buffer.micro().slice(0, rows);
    Tensor& copy = kept.emplace_back(part.shape(), part.dtype(), part.device());
    launch(part.device(), kernel::Copy{part.in(), copy.out(), Write::set});
    copy = copy.to(Device::cpu());  // formulas of one's own are measured too
  }
};

/// A text that never changes: sentences in a language of 256 words of a few syllables, where each
/// word is followed by one of eight, the first of them most often.
std::string drawn_text() {
  constexpr size_t length = 200'000, words = 256, followers = 8;
  const RandomKey key{hash_of(uint64_t{1}, "text")};
  uint64_t drawn = 0;
  const auto draw = [&](size_t below) { return key.draw(0, drawn++)[0] % below; };
  const auto letter = [&](std::string_view letters) { return letters[draw(letters.size())]; };
  std::vector<std::string> word(words);
  for (std::string& one : word)
    for (size_t syllables = 1 + draw(3); syllables > 0; --syllables)
      one += {letter("bcdfghlmnprstvw"), letter("aeiou")};
  std::vector<size_t> next(words * followers);
  for (size_t& one : next) one = draw(words);
  std::string result;
  for (size_t at = 0; result.size() < length;) {
    result += word[at];
    result += draw(10) == 0 ? ".\n" : " ";
    at = next[at * followers + std::min(draw(followers), draw(followers))];
  }
  return result;
}

Tokens read_tokens(const std::string& path) {
  if (!path.empty()) return Tokens::from_file(path, TokenizerKind::character).tokens;
  const std::string text = drawn_text();
  const Tokenizer tokenizer(TokenizerKind::character, text);
  return Tokens(tokenizer.encode(text), tokenizer.vocabulary());
}

AdamWConfig adamw(const Options& recipe, int64_t steps, double weight_decay) {
  return {.lr = cosine(recipe.lr, Step{warmup_for(steps)}, Step{steps}, recipe.lr / 10),
          .beta1 = recipe.beta1,
          .beta2 = recipe.beta2,
          .weight_decay = weight_decay,
          .clip = recipe.clip};
}

/// train_gpt's recipe for so many steps.
void train(Gpt& model, const Tokens& tokens, const Options& recipe, const GradientOptions& o,
           const Progress& progress) {
  if (o.training_steps == 0) return;
  const Parameters all = parameters(model), decays = decayed(all);
  AdamW matrices(decays, adamw(recipe, o.training_steps, recipe.weight_decay)),
      vectors(all.except(decays), adamw(recipe, o.training_steps, 0));
  Cycle cycle(all);
  TokenLoader loader(tokens, {recipe.model.context, recipe.effective_batch, o.seed, o.device});
  for (int64_t done = 0; done < o.training_steps; ++done) {
    progress("training a GPT", done, o.training_steps);
    step(cycle.run(loader.next(), {.samples = recipe.micro_batch},
                   [&](const TokenBatch& micro) {
                     return cross_entropy(model(micro.tokens), micro.targets);
                   }),
         matrices, vectors);
  }
}

}  // namespace

Gradients drawn_gradients(const std::string& name, const std::string& title, double mean,
                          double deviation, const GradientOptions& options) {
  Gradients result{name, title, {}};
  const Shape shape{options.elements / gradient_columns, gradient_columns};
  const RandomKey key{hash_of(static_cast<uint64_t>(options.seed.value), name)};
  for (int64_t k = 0; k < options.count; ++k) {
    std::vector<float> numbers(options.elements);
    for (int64_t i = 0; i < options.elements; i += 2) {
      const auto bits = key.draw(k, static_cast<uint64_t>(i / 2));
      const auto pair = normal_pair(bits[0], bits[1]);
      for (int64_t j : {0, 1})
        numbers[i + j] =
            static_cast<float>(BFloat16(static_cast<float>(mean + deviation * pair[j])));
    }
    result.micro.push_back(Tensor::of<float>(shape, numbers, Device::cpu()));
  }
  return result;
}

Gradients gpt_gradients(const GradientOptions& o, const Progress& progress) {
  const Tokens tokens = read_tokens(o.data);
  const Options recipe;  // train_gpt's defaults
  GptConfig config = recipe.model;
  config.vocabulary = tokens.vocabulary();
  Gpt model(config);
  initialize(model, {o.device}, o.seed);
  train(model, tokens, recipe, o, progress);

  Gradients result{"gpt", "micro-gradients of a GPT's feed-forward matrix", {}};
  const std::string name = "transformer.h.0.mlp.c_fc.weight";
  const auto recorder = std::make_shared<Recorder>(result.micro, o.elements / gradient_columns);
  Cycle cycle(parameters(model), {.accumulate = {{name, recorder}}, .at_edge = [&](MicroStep done) {
                                    progress("recording gradients", done.value, o.count);
                                  }});
  const ClosedCycle closed = cycle.run(
      TokenLoader(tokens, {config.context, o.count, o.seed, o.device}).next(), {.samples = 1},
      [&](const TokenBatch& micro) { return cross_entropy(model(micro.tokens), micro.targets); });
  return result;
}

}  // namespace accrue::examples
