// Mistakes that would write wrong numbers in silence are refused before anything is written.
#include <doctest/doctest.h>

#include <limits>

#include "accrue/accrue.h"

using namespace accrue;

namespace {

struct Net {
  Linear layer{3, 2};
  Var operator()(const Var& x) const { return layer(x); }
  void visit(Visitor& part) { part("layer", layer); }
};

struct Rows {
  Tensor x;
  std::vector<int64_t> indices;
  std::span<const int64_t> samples() const { return indices; }
  Rows slice(int64_t first, int64_t count) const {
    const auto begin = indices.begin() + first;
    return {x.slice(first, count), {begin, begin + count}};
  }
};

struct Stage {
  Net net;
  Rows batch;
  explicit Stage(Device device = Device::reference(), DType dtype = DType::f32) {
    initialize(net, {device, dtype}, Seed{3});
    const std::vector<float> x{1, 2, 3, 4, 5, 6};
    Tensor numbers = Tensor::of<float>({2, 3}, x, device);
    batch = {Tensor({2, 3}, dtype, device), {0, 1}};
    launch(device, kernel::Copy{numbers.in(), batch.x.out(), Write::set});
  }
  Loss loss(const Rows& rows) const { return {sum(net(rows.x)), 2 * rows.x.shape()[0]}; }
};

}  // namespace

TEST_CASE("a free backward inside a micro-batch is refused and deposits nothing") {
  Stage s;
  Cycle cycle(parameters(s.net));
  {
    MicroScope scope = cycle.begin(s.batch);
    const Var y = sum(s.net(s.batch.x));
    CHECK_THROWS_AS(backward(y, Tensor::scalar(1, y.dtype(), y.device())), BadOrder);
  }
  const ClosedCycle closed =
      cycle.run(s.batch, {.samples = 1}, [&](const Rows& rows) { return s.loss(rows); });
  const In bias = closed.sum(s.net.layer.bias);
  CHECK(static_cast<const float*>(bias.data)[0] == 2);  // one for each sample, and nothing else
}

TEST_CASE("a scope whose cycle was discarded cannot deposit into the next") {
  Stage s;
  Cycle cycle(parameters(s.net));
  MicroScope old = cycle.begin(s.batch);
  const Loss loss = s.loss(s.batch);
  cycle.discard();
  {
    MicroScope next = cycle.begin(s.batch);
    CHECK_THROWS_AS(old.backward(loss), BadOrder);
    next.backward(s.loss(s.batch));
  }
  CHECK(cycle.micro_batches() == MicroStep{1});
  cycle.discard();
}

TEST_CASE("a dry run over a real bf16 model leaves its working copies right") {
  Stage s(Device::cpu(), DType::bf16);
  AdamW optimizer(parameters(s.net), {.lr = 0.5});
  Cycle cycle(parameters(s.net));
  auto one_step = [&] {
    return optimizer.step(
        cycle.run(s.batch, {.samples = 2}, [&](const Rows& rows) { return s.loss(rows); }));
  };
  {
    const ModeScope dry(Mode::dry);
    one_step();
  }
  const auto master = s.net.layer.weight.master().to_vector();
  const auto copy = s.net.layer.weight.state()->working().to_vector();
  for (size_t i = 0; i < master.size(); ++i)
    CHECK(copy[i] == static_cast<float>(BFloat16(static_cast<float>(master[i]))));
}

TEST_CASE("ids outside the vocabulary are refused, in embeddings and in targets") {
  const Device device = Device::cpu();
  Embedding table(5, 4);
  Parameter* const weight = &table.weight;
  initialize(table, {device}, Seed{1});
  const std::vector<int32_t> bad{1, 5}, negative{1, -1}, good{4, -100};
  CHECK_THROWS_AS(table(Tensor::of<int32_t>({2}, bad, device)), BadArgument);
  CHECK_THROWS_AS(table(Tensor::of<int32_t>({2}, negative, device)), BadArgument);
  const Var logits = Var(weight->master().slice(0, 2));  // [2, 4]
  CHECK_THROWS_AS(cross_entropy(logits, Tensor::of<int32_t>({2}, bad, device)), BadArgument);
  CHECK_THROWS_AS(cross_entropy(logits, Tensor::of<int32_t>({2}, negative, device)), BadArgument);
  const std::vector<int32_t> ignored{3, -100};
  CHECK(cross_entropy(logits, Tensor::of<int32_t>({2}, ignored, device)).count().item() == 1);
}

TEST_CASE("tensors that cannot be, and views that mean nothing, are refused") {
  const Device device = Device::reference();
  const int64_t large = int64_t{1} << 33;
  CHECK_THROWS_AS(Tensor({large, large}, DType::f32, device), BadArgument);
  CHECK_THROWS_AS(Tensor({0, 3}, DType::f32, device).reshape({0, -1}), BadArgument);
  CHECK_THROWS_AS(Tensor({4}, DType::f32, device).reshape({-2, -2}), BadArgument);
  const Tensor x({2, 3}, DType::f32, device);
  CHECK_THROWS_AS(relu(x.transpose(0, 1)), BadArgument);
  CHECK_THROWS_AS(mean_squared_error(x, Tensor({2, 3}, DType::f64, device)), BadArgument);
}

TEST_CASE("a learning rate that is not finite, or throws, leaves the model whole") {
  Stage s;
  const auto before = s.net.layer.weight.master().to_vector();
  Cycle cycle(parameters(s.net));
  Sgd optimizer(parameters(s.net), {.lr = std::numeric_limits<double>::quiet_NaN()});
  CHECK_THROWS_AS(optimizer.step(cycle.run(s.batch, {.samples = 2},
                                           [&](const Rows& rows) { return s.loss(rows); })),
                  BadArgument);
  CHECK(s.net.layer.weight.master().to_vector() == before);
  CHECK(cycle.step() == Step{0});
}
