// verify_cycle() against what is known: models without error, accumulators whose bounds are
// declared, rules that are wrong.
#include "laws/verify.h"

#include <algorithm>

#include "laws/outside.h"

namespace accrue::test {
namespace {

CycleOptions with(std::shared_ptr<const Accumulator> accumulator) {
  return {.accumulate = {{"*", std::move(accumulator)}}};
}

// Sums of at most 48 terms (rows of the batch), one in each operation forward and backward; the
// terms of a gradient cancel some ten times.
double arithmetic(const Verification& report, double u) {
  return 10 * 2 * static_cast<double>(report.operations) * 48 * u;
}

// Sums in bf16, and claims f32's bound.
struct Boastful final : Accumulator {
  std::string_view name() const override { return "boastful"; }
  bool fused() const override { return true; }
  double error_bound(int64_t k) const override { return accumulators::f32()->error_bound(k); }
  std::vector<State> state(DType, const Shape&) const override { return {{"sum", DType::bf16}}; }
};

// y = 3·x, with the factor of its rule to choose.
struct TripleOp {
  double in_f32, in_f64;
  Tensor forward(Saved&, const Tensor& x) const {
    Tensor y = empty_like(x);
    launch(x.device(), kernel::Scale{x.in(), {}, 3, y.out(), Write::set});
    return y;
  }
  void backward(const Saved&, const Tensor& dy, Edge dx) const {
    const Deposit d = dx.place();
    const double factor = dy.dtype() == DType::f64 ? in_f64 : in_f32;
    launch(dy.device(), kernel::Scale{dy.in(), {}, factor, d.into, d.write});
  }
};

struct Net {
  Linear in{6, 5, normal(0.5)}, out{5, 3, normal(0.5)};
  explicit Net(Where where) { initialize(*this, {where.device, where.dtype}, Seed{2}); }
  void visit(Visitor& part) { part("in", in), part("out", out); }
  Verification verify(const Rows& rows, const TripleOp& triple,
                      const VerifyOptions& options) const {
    const Cycle cycle(parameters(*this));
    return verify_cycle(
        cycle, rows, {.samples = 4},
        [&](const Rows& micro) {
          return mean_squared_error(out(tanh(record("triple", triple, in(micro.x)))), micro.y);
        },
        options);
  }
};

}  // namespace

TEST_CASE("a model in f64 has no error: dropout, recomputation and tied weights replay alike") {
  const Verification report = Verified(exact()).verify();
  CHECK(report.parameters.size() == parameters(Gpt(with_everything())).size());
  CHECK(worst(report) <= 1e-13);  // two orders of some 50 additions: 50·2⁻⁵³, cancelling ten times
  CHECK(std::abs(report.loss / report.exact_loss - 1) <= 1e-14);
  CHECK(report.count == 27);
  CHECK(report.micro_batches.size() == 3);
  for (const ParameterError& one : report.parameters) {
    CHECK(one.norm > 0);
    CHECK(one.deposits == (one.name == "transformer.wte.weight" ? 6 : 3));
    CHECK(!one.rule);
  }
}

TEST_CASE("f32 on the cpu is as far off as f32 rounds, not farther, and not exact") {
  const Verification report = Verified(f32).verify();
  for (const ParameterError& one : report.parameters) {
    CAPTURE(one.name);
    CHECK(one.relative <= one.bound + arithmetic(report, u_f32));
    CHECK(one.largest <= one.relative * one.norm * 1.0001);
  }
  CHECK(worst(report) > u_f32 / 10);
  CHECK(std::abs(report.loss / report.exact_loss - 1) <= 48 * u_f32);
}

TEST_CASE("in f64 all error is the accumulator's, within what it declares, and shows in bf16") {
  const Verified stage(exact());
  for (const auto& accumulator : accumulators::all()) {
    CAPTURE(accumulator->name());
    const Verification report = stage.verify(with(accumulator), 1);
    for (const ParameterError& one : report.parameters) {
      CAPTURE(one.name);
      CHECK(one.accumulator == accumulator->name());
      CHECK(one.relative <= one.bound + 1e-13);
    }
    if (accumulator->name().starts_with("bf16"))
      CHECK(worst(report) > u_bf16 / 4);
    else
      CHECK(worst(report) <= 2 * u_f32);
  }
}

TEST_CASE("every tier, and every accumulator in it") {
  constexpr Reproducible tiers[]{Reproducible::run, Reproducible::split, Reproducible::ranks};
  for (Where where : {exact(), f32}) {
    const Verified stage(where);
    const auto within = [&](const std::shared_ptr<const Accumulator>& accumulator,
                            Reproducible tier) {
      CycleOptions options = with(accumulator);
      options.reproducible = tier;
      const Verification report = stage.verify(options, 4);
      CHECK(report.micro_batches.size() == (tier == Reproducible::run ? 2 : 8));
      const double own = where.dtype == DType::f64 ? 1e-13 : arithmetic(report, u_f32);
      return std::ranges::all_of(report.parameters, [&](const ParameterError& one) {
        return one.relative <= one.bound + own;
      });
    };
    CAPTURE(text_of(where));
    for (Reproducible tier : tiers) {
      CAPTURE(name_of(tier));
      for (const auto& accumulator : every_accumulator()) {
        // Votes and medians are no sums; `ranks` takes only trees and integers (tiers.cpp).
        if (accumulator->split_equality() == SplitEquality::none) continue;
        const std::string_view name = accumulator->name();
        const bool tree = name == "f32" || name == "tree" || name == "fixed_point";
        if (tier == Reproducible::ranks && !tree) continue;
        CAPTURE(name);
        CHECK(within(accumulator, tier));
      }
      if (tier != Reproducible::ranks) CHECK_FALSE(within(std::make_shared<Boastful>(), tier));
    }
  }
}

TEST_CASE("a rule that is wrong in f32 alone is found, behind it and nowhere else") {
  const Rows rows = random_rows(10, 6, 3, f32, 7);
  const Net net(f32);
  CHECK(worst(net.verify(rows, {3, 3}, {})) <= 1e-5);
  for (const ParameterError& one : net.verify(rows, {1, 3}, {}).parameters) {
    CAPTURE(one.name);
    if (one.name.starts_with("in."))
      CHECK(one.relative == doctest::Approx(2.0 / 3));
    else
      CHECK(one.relative <= 1e-5);
  }
}

TEST_CASE("a rule that is wrong everywhere is found by differences, and by them alone") {
  for (Where where : {exact(), f32}) {
    const Rows rows = random_rows(10, 6, 3, where, 7);
    const Net net(where);
    CHECK(worst(net.verify(rows, {1, 1}, {})) <= 1e-5);
    for (const ParameterError& one : net.verify(rows, {1, 1}, {.rules = true}).parameters) {
      CAPTURE(one.name);
      if (one.name.starts_with("in."))
        CHECK(*one.rule == doctest::Approx(2.0 / 3).epsilon(1e-4));  // 3 against 1
      else
        CHECK(*one.rule <= 1e-6);
    }
    for (const ParameterError& one : net.verify(rows, {3, 3}, {.rules = true}).parameters)
      CHECK(*one.rule <= 1e-6);
  }
}

TEST_CASE("differences find no fault with a GPT") {
  const Verified stage(f32);
  const Cycle cycle(parameters(stage.model));
  const Verification report =
      verify_cycle(cycle, stage.batch, {.samples = 4}, chunked_loss(stage.model), {.rules = true});
  for (const ParameterError& one : report.parameters) {
    CAPTURE(one.name);
    CHECK(*one.rule <= 1e-6);
  }
}

TEST_CASE("bf16: the error is of arithmetic, not of storing weights in bf16") {
  struct One {
    Parameter w{Shape{4}, ones()};
    void visit(Visitor& part) { part("w", w); }
  } model;
  initialize(model, {Device::cpu(), DType::bf16}, Seed{1});
  Tensor master = model.w.master();
  launch(Device::cpu(), kernel::Fill{master.out(), 1 + 0x1p-12});  // rounds to 1
  model.w.state()->changed();
  const Cycle cycle(parameters(model));
  const Rows rows = random_rows(2, 4, 4, f32, 3);
  const Verification report = verify_cycle(cycle, rows, {.samples = 1}, [&](const Rows&) {
    return Loss(sum(Var(model.w) * Var(model.w)), 1);
  });
  CHECK(report.parameters[0].relative == 0);  // 2·1, twice; of the masters it would be 2⁻¹² off
  CHECK(report.parameters[0].norm == 8);
  const Verification gpt = Verified({Device::cpu(), DType::bf16}).verify();
  CHECK(worst(gpt) > u_bf16 / 4);
  // Each operation stores a result in bf16; sums inside are f32. Cancelling ten times, as above.
  CHECK(worst(gpt) <= 10 * 2 * static_cast<double>(gpt.operations) * u_bf16);
}

TEST_CASE(
    "numbers taken out of Vars are constants; leaves of the caller's and frozen parts serve") {
  for (Where where : {exact(), f32}) {
    const Rows rows = random_rows(6, 6, 3, where, 4);
    Net net(where), teacher(where);
    freeze(parameters(net).matching("in.bias"));
    Tensor gradient = empty_like(rows.x);
    const Cycle cycle(parameters(net).except(parameters(net).matching("in.bias")));
    const Verification report = verify_cycle(cycle, rows, {.samples = 6}, [&](const Rows& micro) {
      Tensor target;
      {
        const Evaluation off;
        target = teacher.out(tanh(teacher.in(micro.x))).value();
      }
      const Var h = net.in(Var(micro.x, Deposit(gradient.out(), Write::set)));
      return mean_squared_error(net.out(tanh(h + scale(h.detach(), h.value().to_vector()[0]))),
                                target);
    });
    CHECK(worst(report) <= (where.dtype == DType::f64 ? 1e-13 : 1e-5));
    CHECK(norm(gradient.to_vector()) > 0);
  }
}

}  // namespace accrue::test
