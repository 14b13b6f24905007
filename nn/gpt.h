// Gpt: a decoder-only transformer whose parameters have the names and shapes of Hugging Face's
// GPT-2 (GPT2LMHeadModel), so that tensors of one map onto tensors of the other by name.
#pragma once
#include <optional>

#include "accrue/nn/layers.h"

namespace accrue {

enum class Positions { learned, rope };
enum class NormKind { layer_norm, rms_norm };
enum class Activation { gelu, swiglu };
enum class Recompute {
  none,
  block,
  sqrt
};  // of activations: each block, or groups of √layers blocks

struct GptConfig {
  int64_t layers = 4, heads = 4, width = 128, context = 64, vocabulary = 65;
  Positions positions = Positions::learned;
  NormKind norm = NormKind::layer_norm;
  Activation activation = Activation::gelu;
  bool tied = true;  // the head is the token embedding
  double dropout = 0;
  Recompute recompute = Recompute::none;

  /// Throws BadArgument naming the flag: sizes out of range, heads that do not divide the width, …
  void check() const;
};

/// LayerNorm or RMSNorm, by the configuration.
struct AnyNorm {
  std::optional<LayerNorm> layer;
  std::optional<RmsNorm> rms;

  AnyNorm(NormKind kind, int64_t width);
  Var operator()(const Var& x) const { return layer ? (*layer)(x) : (*rms)(x); }
  SumAndNorm operator()(const Var& x, const Var& branch) const {
    return layer ? add_layer_norm(x, branch, layer->weight, layer->bias)
                 : add_rms_norm(x, branch, rms->weight);
  }
  void visit(Visitor& part) { layer ? layer->visit(part) : rms->visit(part); }
};

struct GptAttention {
  Linear c_attn, c_proj;
  Dropout resid;
  RandomSite attn;
  int64_t heads;
  double p;
  bool turn;  // rotary positions

  explicit GptAttention(const GptConfig& config);
  Var operator()(const Var& x) const;
  void visit(Visitor& part);
};

struct GptMlp {
  Linear c_fc;
  std::optional<Linear> c_gate;  // swiglu: silu(gate)·up
  Linear c_proj;
  Dropout dropout;

  explicit GptMlp(const GptConfig& config);
  Var operator()(const Var& x) const;
  void visit(Visitor& part);
};

struct GptBlock {
  AnyNorm ln_1;
  GptAttention attn;
  AnyNorm ln_2;
  GptMlp mlp;

  explicit GptBlock(const GptConfig& config);
  /// x + attn(ln_1(x)), then + mlp(ln_2(·)). x [B, T, C].
  Var operator()(const Var& x) const;
  void visit(Visitor& part);
};

/// What Hugging Face calls "transformer".
struct GptTransformer {
  Embedding wte;
  std::optional<Embedding> wpe;
  Dropout drop;
  std::vector<GptBlock> h;
  AnyNorm ln_f;
  Recompute recompute;

  explicit GptTransformer(const GptConfig& config);
  Var operator()(const Tensor& ids) const;
  void visit(Visitor& part);
};

struct Gpt {
  GptConfig config;
  GptTransformer transformer;
  std::optional<Embedding> lm_head;  // untied only

  explicit Gpt(const GptConfig& config);
  /// ids i32 [B, T], T ≤ context → hidden states [B, T, C] after the last norm.
  Var hidden(const Tensor& ids) const;
  /// [V, C]: logits are hidden·headᵀ.
  const Parameter& head() const { return (lm_head ? *lm_head : transformer.wte).weight; }
  /// Logits [B, T, V].
  Var operator()(const Tensor& ids) const { return matmul_transposed(hidden(ids), head()); }
  void visit(Visitor& part);
};

struct Sampling {
  double temperature = 1;  // 0: always the most likely
  int64_t top_k = 0;       // 0: all
};
/// Continues `prompt` by `count` tokens, keyed by `seed`: the same text each time.
std::vector<int32_t> sample(const Gpt& model, std::vector<int32_t> prompt, int64_t count,
                            Sampling how, Seed seed);

/// Parameters that weight decay applies to, by custom: matrices, not norms and biases.
Parameters decayed(const Parameters& all);

}  // namespace accrue
