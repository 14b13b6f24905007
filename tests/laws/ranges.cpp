// What a profiler sees of a cycle, told by a backend that writes down the ranges it is asked for.
#include <map>

#include "laws/cycle_norm.h"

namespace accrue::test {
namespace {

struct Seen {
  std::vector<std::string> open;
  std::map<std::string, int> times;  // by "outer/inner"
} seen;

Device watched() {
  static constexpr RangeCalls calls{[](const char* name) {
                                      seen.open.push_back(name);
                                      std::string path;
                                      for (const auto& one : seen.open)
                                        path += (path.empty() ? "" : "/") + one;
                                      ++seen.times[path];
                                    },
                                    [] { seen.open.pop_back(); }};
  static const Backend backend = [] {
    Backend spy = *Device::cpu().backend;
    spy.ranges = &calls;
    return spy;
  }();
  return {&backend};
}

// A cycle of two micro-batches and its step.
void train(Recompute recompute) {
  GptConfig config = tiny_gpt();
  config.recompute = recompute;
  Gpt model(config);
  initialize(model, {watched(), DType::f32}, Seed{1});
  const TokenBatch batch = token_batch(config, 4, watched(), 5);
  AdamW optimizer(parameters(model));
  Cycle cycle(parameters(model));
  seen = {};
  optimizer.step(cycle.run(batch, {.samples = 2}, chunked_loss(model)));
}

const std::string forward = "cycle/micro-batch/", backward = "cycle/micro-batch/backward/";

}  // namespace

TEST_CASE("a profiler sees the cycle, its micro-batches, their layers and the step") {
  train(Recompute::none);
  CHECK(seen.open.empty());
  CHECK(seen.times["cycle"] == 1);
  CHECK(seen.times["cycle/micro-batch"] == 2);
  CHECK(seen.times["step"] == 1);
  for (const char* layer :
       {"embedding transformer.wte.weight", "layer_norm transformer.h.0.ln_1.weight",
        "linear transformer.h.1.attn.c_attn.weight", "add_layer_norm transformer.h.0.ln_2.weight",
        "gelu_mlp transformer.h.1.mlp.c_fc.weight", "layer_norm transformer.ln_f.weight",
        "attention"}) {
    CAPTURE(layer);
    const int blocks = std::string(layer) == "attention" ? 2 : 1;
    CHECK(seen.times[forward + layer] == 2 * blocks);
    CHECK(seen.times[backward + layer] == 2 * blocks);
  }
}

TEST_CASE("what is computed again is seen in backward, beside its rule") {
  train(Recompute::block);
  const std::string again = "gelu_mlp transformer.h.1.mlp.c_fc.weight";
  CHECK(seen.times[forward + again] == 2);
  CHECK(seen.times[backward + again] == 2 * 2);
  CHECK(seen.times[backward + "layer_norm transformer.ln_f.weight"] == 2);  // outside of blocks
}

TEST_CASE("with cycle operations, each sweep over the micro-batches is seen as theirs") {
  const Where watched_f32{watched(), DType::f32};
  ResidualNet net;
  initialize(net, {watched(), DType::f32}, Seed{3});
  Cycle cycle(parameters(net));
  for (int i = 0; i < 2; ++i) {  // the first begins as if it had no such operations
    cycle.discard();
    net.forget();
    seen = {};
    const ClosedCycle closed = cycle.run(random_rows(6, 6, 3, watched_f32, 1), {.samples = 2},
                                         [&](const Rows& micro) { return net.loss(micro); });
    CHECK(closed.micro_batches().value == 3);
  }
  CHECK(seen.open.empty());
  // Three norms cut the tape into four parts: three gather, four go back, three wait for sums.
  CHECK(seen.times["cycle/micro-batch"] == (3 + 4 + 3) * 3);
  CHECK(seen.times[backward + "tanh"] == 3 * 3);
  CHECK(seen.times[backward + "cycle_norm"] == 3 * 3);
  CHECK(seen.times[forward + "tanh"] == (2 + 3) * 3);
  // Each norm's gather, and its values: twice, the last norm's once.
  CHECK(seen.times[forward + "cycle_norm"] == (3 + 5) * 3);
  CHECK(seen.times["cycle/tanh"] == 0);
}

}  // namespace accrue::test
