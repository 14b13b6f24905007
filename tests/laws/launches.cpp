// What is done once, counted by a backend that counts: weights are copied and packed once per cycle
// however many micro-batches it has, and a step is one kernel for each group of parameters.
#include "support.h"

namespace accrue::test {
namespace {

struct Counts {
  int64_t copies = 0;      // working copies made from masters
  int64_t packs = 0;       // layouts of a weight that a product had to make
  int64_t steps = 0;       // an optimizer's kernels
  int64_t parameters = 0;  // what they updated
  int64_t norms = 0;
  bool operator==(const Counts&) const = default;
} counts;

void count(const kernel::Copy& args) {
  counts.copies += args.from.packs && args.to.dtype != args.from.dtype;
}

// As a backend does that keeps one layout of each weight, as it is and transposed.
void count_weight(const In& b) {
  if (!b.packs) return;
  constexpr uint64_t ours = 0x636f756e74;
  Packs::Entry& kept = b.packs->entry(ours + (b.strides[1] == 1), 1, Device::cpu());
  counts.packs += !kept.valid;
  kept.valid = true;
}
void count(const kernel::Matmul& args) { count_weight(args.b); }
void count(const kernel::MatmulUnary& args) { count_weight(args.b); }
void count(const kernel::MatmulUnaryBackward& args) { count_weight(args.b); }
void count(const kernel::Sgd& args) { ++counts.steps, counts.parameters += args.items.size(); }
void count(const kernel::Adam& args) { ++counts.steps, counts.parameters += args.items.size(); }
void count(const kernel::Dot&) { ++counts.norms; }

template <class... Args>
Backend counting() {
  Backend spy = *Device::cpu().backend;
  ((std::get<Kernel<Args>>(spy.kernels).run =
        [](const Args& args, void* workspace) {
          count(args);
          std::get<Kernel<Args>>(Device::cpu().backend->kernels).run(args, workspace);
        }),
   ...);
  return spy;
}

Device spy() {
  static const Backend backend =
      counting<kernel::Copy, kernel::Matmul, kernel::MatmulUnary, kernel::MatmulUnaryBackward,
               kernel::Sgd, kernel::Adam, kernel::Dot>();
  return {&backend};
}

struct Stage {
  Gpt model{tiny_gpt()};
  TokenBatch batch = token_batch(tiny_gpt(), 4, spy(), 5);
  Cycle cycle;
  explicit Stage(DType dtype)
      : cycle([&] {
          initialize(model, {spy(), dtype}, Seed{1});
          return parameters(model);
        }()) {}
  Parameters all() const { return parameters(model); }
  ClosedCycle run(int64_t micro) {
    return cycle.run(batch, {.samples = micro}, chunked_loss(model));
  }
};

template <class F>
Counts counted(const F& program) {
  counts = {};
  program();
  return counts;
}

// Of so many cycles over a fresh model, each of K micro-batches; the weights change after each.
Counts of_cycles(DType dtype, int cycles, int64_t k) {
  Stage s(dtype);
  return counted([&] {
    for (int i = 0; i < cycles; ++i) {
      (void)s.run(4 / k);
      for (const auto& one : s.all().list) one->changed();
    }
  });
}

}  // namespace

TEST_CASE("weights are copied and packed once per cycle, however many micro-batches it has") {
  for (DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    CAPTURE(name_of(dtype));
    const Counts one = of_cycles(dtype, 1, 1), four = of_cycles(dtype, 4, 1);
    const auto weights = static_cast<int64_t>(Stage(dtype).all().size());
    CHECK(one.copies == (dtype == DType::f32 ? 0 : weights));
    // Two blocks of four matrices and the head, which is the table: each forward and backward.
    CHECK(one.packs == 2 * 9);
    for (int64_t k : {2, 4}) CHECK(of_cycles(dtype, 1, k) == one);
    // Four cycles of one micro-batch make four times as many.
    CHECK(four.copies == 4 * one.copies);
    CHECK(four.packs == 4 * one.packs);
  }
}

TEST_CASE("a step refreshes the copies in its own pass: the cycle after it copies nothing") {
  Stage s(DType::bf16);
  AdamW optimizer(s.all());
  const auto train = [&] { optimizer.step(s.run(1)); };
  const Counts first = counted(train), second = counted(train);
  CHECK(first.copies == static_cast<int64_t>(s.all().size()));
  CHECK(second.copies == 0);
  CHECK(second.packs == first.packs);
}

TEST_CASE("a step is one kernel for each group, however many parameters it has, and one norm") {
  for (DType dtype : {DType::f32, DType::bf16}) {
    Stage s(dtype);
    const auto n = static_cast<int64_t>(s.all().size());
    const auto of_step = [&](Optimizer& optimizer) {
      ClosedCycle closed = s.run(1);
      return counted([&] { CHECK(!optimizer.step(std::move(closed)).skipped); });
    };
    Sgd sgd(s.all(), {.momentum = 0.9, .clip = 1});
    AdamW adam(s.all(), {.clip = 1});
    AdamW grouped(s.all(), {.groups = {{"*.bias", 0}, {"*ln_*", 0, 0.5}}});
    for (Optimizer* one : {static_cast<Optimizer*>(&sgd), static_cast<Optimizer*>(&adam)})
      CHECK(of_step(*one) == Counts{.steps = 1, .parameters = n, .norms = 1});
    CHECK(of_step(grouped) == Counts{.steps = 3, .parameters = n, .norms = 1});
  }
}

TEST_CASE("stepped one by one in backward, each parameter is a kernel of its own") {
  Stage probe(DType::f32);
  AdamW adam(probe.all());
  Cycle cycle(probe.all(), {.consume = in_backward({&adam}), .skip_non_finite = false});
  const auto n = static_cast<int64_t>(probe.all().size());
  const Counts made = counted(
      [&] { adam.step(cycle.run(probe.batch, {.samples = 1}, chunked_loss(probe.model))); });
  CHECK(made.steps == n);
  CHECK(made.parameters == n);
  CHECK(made.norms == 0);
}

}  // namespace accrue::test
