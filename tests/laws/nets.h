// Small networks, one for each kind of layer, behind one interface: the laws are asserted of all.
#pragma once
#include <memory>

#include "support.h"

namespace accrue::test {

/// Samples with whatever the networks read: x, y [B, T, C]; ids, targets i32 [B, T].
struct Mixed {
  Tensor x, y, ids, targets;
  std::vector<int64_t> indices;

  static constexpr int64_t time = 4, width = 6, vocabulary = 7;
  std::span<const int64_t> samples() const { return indices; }
  Mixed slice(int64_t first, int64_t n) const {
    const auto begin = indices.begin() + first;
    return {x.slice(first, n),
            y.slice(first, n),
            ids.slice(first, n),
            targets.slice(first, n),
            {begin, begin + n}};
  }
};

inline Mixed mixed_batch(int64_t count, Where where, uint64_t seed) {
  const Shape wide{count, Mixed::time, Mixed::width}, narrow{count, Mixed::time};
  std::mt19937_64 bits(seed);
  std::vector<int32_t> ids, targets;
  for (int64_t i = 0; i < narrow.elements(); ++i) {
    ids.push_back(static_cast<int32_t>(bits() % Mixed::vocabulary));
    targets.push_back(bits() % 4 == 0 ? -100 : static_cast<int32_t>(bits() % Mixed::vocabulary));
  }
  Mixed batch{random_tensor(wide, where, seed),
              random_tensor(wide, where, seed + 1),
              ids_of(narrow, ids, where.device),
              ids_of(narrow, targets, where.device),
              {}};
  batch.indices.resize(count);
  std::iota(batch.indices.begin(), batch.indices.end(), int64_t{100});
  return batch;
}

struct AnyNet {
  virtual ~AnyNet() = default;
  virtual Parameters all() const = 0;
  virtual Loss loss(const Mixed&) const = 0;
};

template <class Net>
struct NetOf final : AnyNet {
  Net net;
  explicit NetOf(Where where) { initialize(net, {where.device, where.dtype}, Seed{1}); }
  Parameters all() const override { return parameters(net); }
  Loss loss(const Mixed& batch) const override { return net.loss(batch); }
};

namespace nets {

constexpr int64_t width = Mixed::width;

struct LinearGelu {
  Linear first{width, width, normal(0.5)}, up{width, 8, normal(0.5)}, down{8, width, normal(0.5)};
  void visit(Visitor& part) { part("first", first), part("up", up), part("down", down); }
  Loss loss(const Mixed& b) const {
    const Var x = gelu(first(b.x));
    return mean_squared_error(gelu_mlp(x, up.weight, up.bias, down.weight, down.bias), b.y);
  }
};

template <class Norm>
struct Normed {
  Norm norm{width};
  Linear out{width, width, normal(0.5)};
  void visit(Visitor& part) { part("norm", norm), part("out", out); }
  Loss loss(const Mixed& b) const { return mean_squared_error(out(norm(b.x)), b.y); }
};

// One matrix is table and head.
struct TiedEmbedding {
  Embedding table{Mixed::vocabulary, width, normal(0.5)};
  void visit(Visitor& part) { part("table", table); }
  Loss loss(const Mixed& b) const {
    const Var weight = table.weight;
    return cross_entropy(tanh(embedding(weight, b.ids)), weight, b.targets, -100, 5);
  }
};

struct Attention {
  Linear qkv{width, 3 * width, normal(0.5)}, out{width, width, normal(0.5)};
  RandomSite site;
  void visit(Visitor& part) { part("qkv", qkv), part("out", out), part("site", site); }
  Loss loss(const Mixed& b) const {
    constexpr int64_t heads = 3;
    return mean_squared_error(out(causal_attention(rope(qkv(b.x), heads), heads, 0.2, site)), b.y);
  }
};

// SwiGLU's product, and both other activations.
struct Gated {
  Linear gate{width, 8, normal(0.5)}, up{width, 8, normal(0.5)}, down{8, width, normal(0.5)};
  Dropout drop{0.3};
  void visit(Visitor& part) {
    part("gate", gate), part("up", up), part("down", down), part("drop", drop);
  }
  Loss loss(const Mixed& b) const {
    const Var x = tanh(b.x);
    return mean_squared_error(relu(down(drop(silu(gate(x)) * up(x)))), b.y);
  }
};

}  // namespace nets

struct NetKind {
  const char* name;
  std::unique_ptr<AnyNet> (*make)(Where);
  int64_t deposits;  // of one parameter by one sample, at most, where each is added by itself
};

template <class Net>
std::unique_ptr<AnyNet> make_net(Where where) {
  return std::make_unique<NetOf<Net>>(where);
}

inline const std::vector<NetKind>& net_kinds() {
  constexpr int64_t rows = Mixed::time;  // a kernel may add row by row into its place
  static const std::vector<NetKind> all{
      {"linear, gelu, gelu_mlp", make_net<nets::LinearGelu>, rows},
      {"layer norm", make_net<nets::Normed<LayerNorm>>, rows},
      {"rms norm", make_net<nets::Normed<RmsNorm>>, rows},
      {"tied embedding", make_net<nets::TiedEmbedding>, 2 * rows},
      {"rotary attention with dropout", make_net<nets::Attention>, rows},
      {"gated mlp with dropout", make_net<nets::Gated>, rows},
  };
  return all;
}

}  // namespace accrue::test
