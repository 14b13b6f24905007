// Layers: plain structs with parts by value, a const call operator, and a visit() that lists them.
// There is no train flag: inside a scope is training, outside is evaluation.
#pragma once
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "accrue/nn/functional.h"

namespace accrue {

/// y = x·weight + bias. weight [in, out], as in GPT-2; x […, in], y […, out].
struct Linear {
  Parameter weight, bias;

  Linear(int64_t in, int64_t out, Initial initial = normal(0.02))
      : weight({in, out}, std::move(initial)), bias({out}, zeros()) {}
  Var operator()(const Var& x) const { return linear(x, weight, bias); }
  void visit(Visitor& part) {
    part("weight", weight);
    part("bias", bias);
  }
};

/// One row of weight [vocabulary, width] for each id.
struct Embedding {
  Parameter weight;

  Embedding(int64_t vocabulary, int64_t width, Initial initial = normal(0.02))
      : weight({vocabulary, width}, std::move(initial)) {}
  Var operator()(const Tensor& ids) const { return embedding(weight, ids); }
  void visit(Visitor& part) { part("weight", weight); }
};

struct LayerNorm {
  Parameter weight, bias;

  explicit LayerNorm(int64_t width) : weight({width}, ones()), bias({width}, zeros()) {}
  Var operator()(const Var& x) const { return layer_norm(x, weight, bias); }
  void visit(Visitor& part) {
    part("weight", weight);
    part("bias", bias);
  }
};

struct RmsNorm {
  Parameter weight;

  explicit RmsNorm(int64_t width) : weight({width}, ones()) {}
  Var operator()(const Var& x) const { return rms_norm(x, weight); }
  void visit(Visitor& part) { part("weight", weight); }
};

struct Dropout {
  double p;
  RandomSite site;

  explicit Dropout(double probability) : p(probability) {}
  Var operator()(const Var& x) const { return dropout(x, p, site); }
  void visit(Visitor& part) { part("site", site); }
};

/// Any struct callable on a Var; listed if it has parts.
class Layer {
 public:
  template <class M>
  requires(!std::same_as<std::remove_cvref_t<M>, Layer> &&
           std::is_invocable_r_v<Var, const std::decay_t<M>&, const Var&>) Layer(M&& layer)
      : self_(std::make_unique<Held<std::decay_t<M>>>(std::forward<M>(layer))) {}
  Var operator()(const Var& x) const { return self_->call(x); }
  void visit(Visitor& part) { self_->visit(part); }

 private:
  struct Any {
    virtual ~Any() = default;
    virtual Var call(const Var&) const = 0;
    virtual void visit(Visitor&) = 0;
  };
  template <class M>
  struct Held final : Any {
    M layer;
    explicit Held(M one) : layer(std::move(one)) {}
    Var call(const Var& x) const override { return layer(x); }
    void visit(Visitor& part) override {
      if constexpr (requires { layer.visit(part); }) layer.visit(part);
    }
  };
  std::unique_ptr<Any> self_;
};

/// Layers one after the other; parts are named by position.
struct Sequential {
  std::vector<Layer> layers;

  template <class... M>
  explicit Sequential(M&&... one) {
    (layers.emplace_back(std::forward<M>(one)), ...);
  }
  Var operator()(const Var& x) const {
    Var y = x;
    for (const Layer& layer : layers) y = layer(y);
    return y;
  }
  void visit(Visitor& part) { part("layers", layers); }
};

}  // namespace accrue
