// What a researcher combines: a batch of their own, two optimizers, a frozen part, a teacher, local
// modules, two losses, the gradient of an input, the error of a cycle.
#include "accrue/autograd/verify.h"
#include "accrue/nn/gpt.h"
#include "accrue/nn/loader.h"
#include "accrue/optim/optimizers.h"

using namespace accrue;

struct Pairs {
  Tensor a, b;
  std::vector<int64_t> indices;
  std::span<const int64_t> samples() const { return indices; }
  Pairs slice(int64_t first, int64_t n) const {
    return {
        a.slice(first, n),
        b.slice(first, n),
        {indices.begin() + first, indices.begin() + first + n}};
  }
};

void own_batch(Cycle& cycle, const Pairs& pairs, Linear& layer, AdamW& optimizer) {
  optimizer.step(cycle.run(pairs, {.samples = 8}, [&](const Pairs& micro) {
    return mean_squared_error(layer(micro.a), micro.b);
  }));
}

void two_optimizers(Gpt& model, const TokenBatch& batch) {
  const Parameters all = parameters(model), matrices = all.matching("*.weight");
  Sgd sgd(matrices, {.momentum = 0.9, .nesterov = true});
  AdamW adam(all.except(matrices));
  Cycle cycle(all);
  step(
      cycle.run(
          batch, {.samples = 4},
          [&](const TokenBatch& micro) {
            return cross_entropy(model(micro.tokens), micro.targets);
          }),
      sgd, adam);
}

void distil(
    Gpt& student, const Gpt& teacher, const TokenBatch& batch, AdamW& optimizer, Cycle& cycle) {
  optimizer.step(cycle.run(batch, {.samples = 2}, [&](const TokenBatch& micro) {
    Tensor target;
    {
      Evaluation off;
      target = teacher(micro.tokens).value();
    }
    return mean_squared_error(student(micro.tokens), target);
  }));
}

void copy_and_freeze(Gpt& policy) {
  Gpt reference(policy.config);
  initialize(reference, {Device::cpu()}, Seed{0});
  assign(reference, policy);
  freeze(parameters(reference).matching("transformer.h.0.*"));
  unfreeze(parameters(reference));
  Gpt moved = std::move(reference);
  parameters(moved);
}

void local_modules() {
  struct Net {
    Linear in{4, 8}, out{8, 1};
    Var operator()(const Var& x) const { return out(relu(in(x))); }
    void visit(Visitor& part) {
      part("in", in);
      part("out", out);
    }
  } net;
  initialize(net, {Device::reference(), DType::f64}, Seed{1});
  Sequential body(Linear(4, 8), relu, Linear(8, 1));
  initialize(body, {Device::reference(), DType::f64}, Seed{1});
}

void input_gradient(const Tensor& image, Tensor& gradient) {
  Recording on;
  const Var x(image, Deposit{gradient.out(), Write::set});
  backward(relu(x), image);
}

Loss two_heads(const Loss& a, const Loss& b) { return a + b; }

Verification verify(const Gpt& model, const Cycle& cycle, const TokenBatch& batch) {
  const auto loss = [&](const TokenBatch& x) { return cross_entropy(model(x.tokens), x.targets); };
  return verify_cycle(cycle, batch, {.samples = 4}, loss);
}
