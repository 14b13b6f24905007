#include "accrue/nn/gpt.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "accrue/autograd/recompute.h"

namespace accrue {
namespace {

// Residual branches start smaller the more of them add up (GPT-2).
Initial projection(const GptConfig& config) {
  return normal(0.02 / std::sqrt(2.0 * static_cast<double>(config.layers)));
}

// SwiGLU has three matrices instead of two; two thirds of the width keep the number of weights.
int64_t inner_width(const GptConfig& config) {
  const int64_t full = 4 * config.width;
  return config.activation == Activation::gelu ? full : (2 * full / 3 + 7) / 8 * 8;
}

const GptConfig& checked(const GptConfig& config) {
  config.check();
  return config;
}

}  // namespace

void GptConfig::check() const {
  // Far beyond what fits any memory, far below what overflows a product of sizes.
  auto in_range = [](const char* name, int64_t value, int64_t most) {
    require(value >= 1 && value <= most, "[gpt] expected ", name, " from 1 to ", most, ", got ",
            value);
  };
  in_range("layers", layers, 1 << 12);
  in_range("heads", heads, 1 << 20);
  in_range("width", width, 1 << 20);
  in_range("context", context, 1 << 24);
  in_range("vocabulary", vocabulary, 1 << 24);
  int64_t fitting = std::min(heads, width);
  while (width % fitting != 0) --fitting;
  require(width % heads == 0, "[gpt] expected heads that divide the width, got width ", width,
          " and ", heads, " heads; try ", fitting, fitting > 1 ? " heads" : " head",
          ", or a width of ", (width / heads + 1) * heads);
  require(positions != Positions::rope || width / heads % 2 == 0,
          "[gpt] expected an even width per head for rotary positions, got ", width / heads);
  require(dropout >= 0 && dropout < 1, "[gpt] expected dropout in [0, 1), got ", dropout);
}

AnyNorm::AnyNorm(NormKind kind, int64_t width) {
  if (kind == NormKind::layer_norm)
    layer.emplace(width);
  else
    rms.emplace(width);
}

GptAttention::GptAttention(const GptConfig& c)
    : c_attn(c.width, 3 * c.width),
      c_proj(c.width, c.width, projection(c)),
      resid(c.dropout),
      heads(c.heads),
      p(c.dropout),
      turn(c.positions == Positions::rope) {}

Var GptAttention::operator()(const Var& x) const {
  Var qkv = c_attn(x);
  if (turn) qkv = rope(qkv, heads);
  return resid(c_proj(causal_attention(qkv, heads, p, attn)));
}

void GptAttention::visit(Visitor& part) {
  part("c_attn", c_attn);
  part("c_proj", c_proj);
  part("attn_dropout", attn);
  part("resid_dropout", resid);
}

GptMlp::GptMlp(const GptConfig& c)
    : c_fc(c.width, inner_width(c)),
      c_proj(inner_width(c), c.width, projection(c)),
      dropout(c.dropout) {
  if (c.activation == Activation::swiglu) c_gate.emplace(c.width, inner_width(c));
}

Var GptMlp::operator()(const Var& x) const {
  if (c_gate) return dropout(c_proj(silu((*c_gate)(x)) * c_fc(x)));
  return dropout(gelu_mlp(x, c_fc.weight, c_fc.bias, c_proj.weight, c_proj.bias));
}

void GptMlp::visit(Visitor& part) {
  part("c_fc", c_fc);
  part("c_gate", c_gate);
  part("c_proj", c_proj);
  part("dropout", dropout);
}

GptBlock::GptBlock(const GptConfig& c)
    : ln_1(c.norm, c.width), attn(c), ln_2(c.norm, c.width), mlp(c) {}

Var GptBlock::operator()(const Var& x) const {
  const auto [y, normed] = ln_2(x, attn(ln_1(x)));
  return y + mlp(normed);
}

void GptBlock::visit(Visitor& part) {
  part("ln_1", ln_1);
  part("attn", attn);
  part("ln_2", ln_2);
  part("mlp", mlp);
}

GptTransformer::GptTransformer(const GptConfig& c)
    : wte(c.vocabulary, c.width), drop(c.dropout), ln_f(c.norm, c.width), recompute(c.recompute) {
  if (c.positions == Positions::learned) wpe.emplace(c.context, c.width);
  for (int64_t i = 0; i < c.layers; ++i) h.emplace_back(c);
}

Var GptTransformer::operator()(const Tensor& ids) const {
  Var x = wte(ids);
  if (wpe) {
    const int64_t context = wpe->weight.shape()[0], length = ids.shape()[1];
    x = x + (length < context ? slice(wpe->weight, 0, length) : Var(wpe->weight));
  }
  x = drop(x);
  const auto layers = static_cast<int64_t>(h.size());
  const int64_t group =
      recompute == Recompute::sqrt
          ? static_cast<int64_t>(std::ceil(std::sqrt(static_cast<double>(layers))))
          : 1;
  for (int64_t first = 0; first < layers; first += group) {
    auto blocks = [&] {
      Var y = x;
      for (int64_t i = first; i < std::min(first + group, layers); ++i) y = h[i](y);
      return y;
    };
    x = recompute == Recompute::none ? blocks() : accrue::recompute(blocks);
  }
  return ln_f(x);
}

void GptTransformer::visit(Visitor& part) {
  part("wte", wte);
  part("wpe", wpe);
  part("drop", drop);
  part("h", h);
  part("ln_f", ln_f);
}

Gpt::Gpt(const GptConfig& c) : config(checked(c)), transformer(c) {
  if (!c.tied) lm_head.emplace(c.vocabulary, c.width);
}

Var Gpt::hidden(const Tensor& ids) const {
  require(ids.shape().rank == 2 && ids.shape()[1] >= 1 && ids.shape()[1] <= config.context,
          "[gpt] expected ids [B, T] with T at most the context ", config.context, ", got ",
          ids.shape());
  return transformer(ids);
}

void Gpt::visit(Visitor& part) {
  part("transformer", transformer);
  part("lm_head", lm_head);
}

std::vector<int32_t> sample(const Gpt& model, std::vector<int32_t> tokens, int64_t count,
                            Sampling how, Seed seed) {
  require(!tokens.empty(), "[sample] expected a prompt of at least one token, got none");
  require(how.temperature >= 0 && how.top_k >= 0,
          "[sample] expected temperature and top_k of at least 0, got ", how.temperature, " and ",
          how.top_k);
  const Evaluation off;
  const Device device = model.head().master().device();
  for (int64_t n = 0; n < count; ++n) {
    const auto length =
        std::min<int64_t>(static_cast<int64_t>(tokens.size()), model.config.context);
    const std::span<const int32_t> window(tokens.end() - length, tokens.end());
    const Var hidden = model.hidden(Tensor::of<int32_t>({1, length}, window, device));
    const Tensor last = hidden.value().reshape({length, -1}).slice(length - 1, 1);
    const auto logits = matmul_transposed(last, model.head()).value().to_vector();

    std::vector<int32_t> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
    if (how.top_k > 0 && how.top_k < static_cast<int64_t>(order.size())) order.resize(how.top_k);
    if (how.temperature == 0) order.resize(1);
    std::vector<double> weight;
    for (int32_t id : order)
      weight.push_back(
          how.temperature == 0 ? 1 : std::exp((logits[id] - logits[order[0]]) / how.temperature));
    const RandomKey key{hash_of(seed.value, "sample"), 0};
    double left = uniform01(key.draw(n, 0)[0]) * std::accumulate(weight.begin(), weight.end(), 0.0);
    size_t pick = 0;
    while (pick + 1 < order.size() && left >= weight[pick]) left -= weight[pick++];
    tokens.push_back(order[pick]);
  }
  return tokens;
}

Parameters decayed(const Parameters& all) {
  Parameters result;
  for (const auto& one : all.list)
    if (one->shape.rank > 1) result.list.push_back(one);
  return result;
}

}  // namespace accrue
