// The life of a GradBuffer: every transition, legal or not; what each accumulator loses.
#include "support.h"

namespace accrue::test {
namespace {

using Life = GradBuffer::Life;

std::shared_ptr<ParameterState> parameter(const Shape& shape,
                                          Where where = {Device::cpu(), DType::f32}) {
  struct One {
    Parameter weight;
    void visit(Visitor& part) { part("weight", weight); }
  } one{Parameter(shape, zeros())};
  initialize(one, {where.device, where.dtype}, Seed{1});
  return one.weight.state();
}

// As a kernel does it: asks for the place, writes there.
void deposit(GradBuffer& buffer, const Numbers& gradient) {
  const Tensor numbers = tensor_of(buffer.parameter_state()->shape, gradient, exact());
  const Deposit d = buffer.place();
  launch(Device::cpu(), kernel::Copy{numbers.in(), d.into, d.write});
}

void bring_to(GradBuffer& buffer, Life life) {
  if (life == Life::empty) return;
  deposit(buffer, {1});
  buffer.settle();
  if (life == Life::closed) buffer.close();
}

struct Transition {
  const char* name;
  void (*call)(GradBuffer&);
  std::array<std::optional<Life>, 3> to;  // from empty, open, closed; none: BadOrder
};

const std::vector<Transition>& transitions() {
  constexpr auto empty = Life::empty, open = Life::open, closed = Life::closed;
  static const std::vector<Transition> all{
      {"deposit", [](GradBuffer& b) { deposit(b, {1}); }, {open, open, std::nullopt}},
      {"expect and use", [](GradBuffer& b) { b.expect(), b.used(); }, {empty, open, closed}},
      {"fold", [](GradBuffer& b) { b.fold(); }, {empty, open, closed}},
      {"settle", [](GradBuffer& b) { b.settle(); }, {empty, open, closed}},
      {"close", [](GradBuffer& b) { b.close(); }, {closed, closed, std::nullopt}},
      {"clear", [](GradBuffer& b) { b.clear(); }, {empty, empty, empty}},
      {"finish", [](GradBuffer& b) { b.finish(); }, {empty, open, closed}},
      {"weigh", [](GradBuffer& b) { b.weigh(0.5), b.weigh(0); }, {empty, open, closed}},
      {"orphan", [](GradBuffer& b) { b.orphan(); }, {closed, closed, closed}},
  };
  return all;
}

// The sum of these micro-gradients, each a micro-batch of its own.
double sum_of(std::shared_ptr<const Accumulator> accumulator, const Numbers& gradients) {
  GradBuffer buffer(parameter({1}), std::move(accumulator));
  for (double one : gradients) {
    buffer.expect();
    deposit(buffer, {one});
    buffer.used();
    buffer.settle();
  }
  return numbers_of(buffer.sum())[0];
}

// Counts how often a micro-batch is folded.
struct Counting final : Accumulator {
  mutable int folds = 0;
  std::string_view name() const override { return "counting"; }
  bool fused() const override { return false; }
  double error_bound(int64_t) const override { return 1; }
  void fold(GradBuffer& buffer, In micro, Write write) const override {
    ++folds;
    Accumulator::fold(buffer, micro, write);
  }
};

}  // namespace

TEST_CASE("a Var that outlives its cycle deposits nowhere, and the next scope says so") {
  struct Net {
    Parameter w{{1}};
    void visit(Visitor& part) { part("w", w); }
  } net;
  initialize(net, {Device::cpu()}, Seed{1});
  for (const char* name : {"f32", "tree"}) {
    CAPTURE(name);
    const CycleOptions options{.accumulate = accumulators::parse(name)};
    const Rows rows = random_rows(1, 1, 1, {Device::cpu(), DType::f32}, 1);
    Var kept;
    {
      Cycle cycle(parameters(net), options);
      const MicroScope scope = cycle.begin(rows);
      kept = Var(net.w);
      CHECK(kept.node() != nullptr);
    }
    Cycle cycle(parameters(net), options);
    MicroScope scope = cycle.begin(rows);
    const std::string message = message_of<BadOrder>([&] { scope.backward(Loss(sum(kept), 1)); });
    CHECK_MESSAGE((contains(message, "w's") && contains(message, "make the Var anew")), message);
  }
}

TEST_CASE("every transition of a GradBuffer is legal, or BadOrder that names the parameter") {
  for (const auto& accumulator : accumulators::all())
    for (const Transition& transition : transitions())
      for (Life from : {Life::empty, Life::open, Life::closed}) {
        CAPTURE(accumulator->name());
        CAPTURE(transition.name);
        CAPTURE(static_cast<int>(from));
        GradBuffer buffer(parameter({1}), accumulator);
        bring_to(buffer, from);
        REQUIRE(buffer.life() == from);
        if (const auto to = transition.to[static_cast<int>(from)]) {
          CHECK_NOTHROW(transition.call(buffer));
          CHECK(buffer.life() == *to);
          if (*to == Life::empty) CHECK(!buffer.touched());
        } else {
          const std::string message = message_of<BadOrder>([&] { transition.call(buffer); });
          CHECK_MESSAGE((contains(message, "weight") && contains(message, "step or discard")),
                        message);
          CHECK(buffer.life() == from);
        }
      }
}

TEST_CASE("the first deposit of a cycle sets, whatever lay there; later ones add") {
  for (const auto& accumulator :
       {accumulators::f32(), accumulators::bf16(), accumulators::kahan()}) {
    CAPTURE(accumulator->name());
    GradBuffer buffer(parameter({2}), accumulator);
    Tensor& sum = buffer.state("sum");
    launch(sum.device(), kernel::Fill{sum.out(), NAN});
    for (int cycle = 0; cycle < 2; ++cycle) {
      CHECK(!buffer.sum());
      deposit(buffer, {3, 4});
      deposit(buffer, {10, 20});
      buffer.settle();
      deposit(buffer, {100, 200});
      buffer.settle();
      CHECK(numbers_of(buffer.sum()) == Numbers{113, 224});
      buffer.close();
      buffer.clear();
    }
  }
}

TEST_CASE("a buffer that nothing was deposited in is absent at close") {
  GradBuffer buffer(parameter({2}), accumulators::kahan());
  buffer.settle();
  buffer.close();
  CHECK(!buffer.sum());
}

TEST_CASE(
    "a folded buffer folds after the last use, once, and keeps one micro-gradient at a time") {
  const auto counting = std::make_shared<Counting>();
  GradBuffer buffer(parameter({64}), counting);
  const auto gradients = [] {
    return host_allocator().use().current[static_cast<int>(Tag::gradients)];
  };
  const int64_t before = gradients();
  buffer.expect();
  buffer.expect();
  deposit(buffer, Numbers(64, 1));
  CHECK(gradients() - before == 256);
  buffer.used();
  CHECK(counting->folds == 0);
  deposit(buffer, Numbers(64, 2));
  CHECK(gradients() - before == 256);
  buffer.used();
  CHECK(counting->folds == 1);
  CHECK(gradients() == before);
  buffer.settle();
  CHECK(counting->folds == 1);
  CHECK(numbers_of(buffer.sum()) == Numbers(64, 3));
}

TEST_CASE("a weight that one Var uses several times is folded once per micro-batch") {
  struct Twice {
    Parameter weight{Shape{3, 3}, normal(1)};
    void visit(Visitor& part) { part("weight", weight); }
  } model;
  initialize(model, {Device::reference(), DType::f64}, Seed{1});
  const auto counting = std::make_shared<Counting>();
  Cycle cycle(parameters(model), {.accumulate = {{"*", counting}}});
  const Rows rows = random_rows(4, 3, 3, exact(), 1);
  const ClosedCycle closed = cycle.run(rows, {.samples = 2}, [&](const Rows& micro) {
    const Var w = model.weight;
    return mean_squared_error(matmul(matmul(micro.x, w), w), micro.y);
  });
  CHECK(counting->folds == 2);
}

TEST_CASE("a state that the accumulator did not declare is refused by its name") {
  GradBuffer buffer(parameter({2}), accumulators::f32());
  CHECK(contains(message_of<BadArgument>([&] { buffer.state("carry"); }), "carry"));
}

TEST_CASE("a buffer needs an initialised parameter") {
  const Parameter raw(Shape{2});
  CHECK(contains(message_of<BadOrder>([&] { GradBuffer(raw.state(), accumulators::f32()); }),
                 "initialize()"));
}

TEST_CASE("bf16 stalls at 256, f32 and kahan do not") {
  CHECK(sum_of(accumulators::bf16(), {256, 1}) == 256);
  CHECK(sum_of(accumulators::f32(), {256, 1}) == 257);
  CHECK(sum_of(accumulators::kahan(), {256, 1}) == 257);
  CHECK(sum_of(accumulators::bf16(), Numbers(400, 1)) == 256);
  CHECK(sum_of(accumulators::f32(), Numbers(400, 1)) == 400);
}

TEST_CASE("f32 stalls at 2²⁴ where kahan goes on") {
  Numbers gradients(65, 1);
  gradients[0] = 0x1p24;
  CHECK(sum_of(accumulators::f32(), gradients) == 0x1p24);
  CHECK(sum_of(accumulators::kahan(), gradients) == 0x1p24 + 64);
}

TEST_CASE("every accumulator stays within the bound that it declares") {
  for (const auto& accumulator : {accumulators::f32(), accumulators::bf16(), accumulators::kahan()})
    for (int64_t k : {1, 2, 7, 64, 500})
      for (uint64_t seed : {1, 2, 3}) {
        CAPTURE(accumulator->name());
        CAPTURE(k);
        // Numbers that the micro-gradient's dtype holds, so that only the sum can be off.
        Numbers gradients =
            tensor_of({k}, random_numbers(k, seed), {Device::cpu(), DType::f32}).to_vector();
        if (seed == 3)
          for (double& one : gradients) one = std::abs(one);  // the worst case: one sign
        double total = 0, sum = 0;
        for (double one : gradients) sum += one, total += std::abs(one);
        CHECK(std::abs(sum_of(accumulator, gradients) - sum) <=
              accumulator->error_bound(k) * total);
      }
}

TEST_CASE("kahan is better than f32 by more than its bound allows f32 to hide") {
  const Numbers gradients(10'000, 0.1f);
  const double exact_sum = 10'000 * static_cast<double>(0.1f);
  const auto error = [&](auto accumulator) {
    return std::abs(sum_of(accumulator, gradients) - exact_sum) / exact_sum;
  };
  CHECK(error(accumulators::kahan()) <= accumulators::kahan()->error_bound(10'000));
  CHECK(error(accumulators::f32()) > accumulators::kahan()->error_bound(10'000));
}

TEST_CASE("accumulators are chosen by pattern, the first match wins, f32 where none matches") {
  struct Two {
    Linear up{2, 3}, down{3, 2};
    void visit(Visitor& part) { part("up", up), part("down", down); }
  } model;
  initialize(model, {Device::cpu()}, Seed{1});
  const auto names = [&](const Accumulators& choice) {
    Cycle cycle(parameters(model), {.accumulate = choice});
    const Rows rows = random_rows(2, 2, 2, {Device::cpu(), DType::f32}, 1);
    const ClosedCycle closed = cycle.run(rows, {.samples = 1}, [&](const Rows& micro) {
      return mean_squared_error(model.down(model.up(micro.x)), micro.y);
    });
    std::string all;
    for (const auto& buffer : closed.buffers())
      all += std::string(buffer->accumulator().name()) + ' ';
    return all;
  };
  CHECK(names({}) == "f32 f32 f32 f32 ");
  CHECK(names(accumulators::parse("kahan")) == "kahan kahan kahan kahan ");
  CHECK(names(accumulators::parse("kahan:up.*")) == "kahan kahan f32 f32 ");
  CHECK(names(accumulators::parse("kahan:*.bias,bf16:up.*")) == "bf16 kahan f32 kahan ");
  CHECK(names(accumulators::parse("f32:up.bias,bf16:*")) == "bf16 f32 bf16 bf16 ");
}

TEST_CASE("an accumulator's name that does not exist is refused, with those that do") {
  for (const char* choice : {"f16", "kahan,f16:*", "kahan,,f32", ":*", "Kahan"}) {
    CAPTURE(choice);
    const std::string message = message_of<BadArgument>([&] { accumulators::parse(choice); });
    CHECK_MESSAGE(
        (contains(message, "f32") && contains(message, "bf16") && contains(message, "kahan")),
        message);
  }
}

}  // namespace accrue::test
