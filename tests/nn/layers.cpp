// Layers and modules: what they compute, how their parts are named, drawn, frozen and copied.
#include <optional>
#include <set>

#include "support.h"

namespace accrue::test {
namespace {

const Where where{Device::cpu(), DType::f32};

template <class M>
M made(M module, Where at = where, int64_t seed = 1) {
  initialize(module, {at.device, at.dtype}, Seed{seed});
  return module;
}

std::vector<std::string> names_of(const Parameters& all) {
  std::vector<std::string> names;
  for (const auto& one : all.list) names.push_back(one->name);
  return names;
}

void set(const Parameter& parameter, const Numbers& numbers) {
  const Tensor from = tensor_of(parameter.shape(), numbers, exact());
  launch(where.device, kernel::Copy{from.in(), parameter.state()->master.out(), Write::set});
  parameter.state()->changed();
}

struct Inner {
  Linear first{2, 3}, second{3, 2};
  void visit(Visitor& part) { part("first", first), part("second", second); }
};
struct Outer {
  Inner inner;
  std::vector<Linear> many;
  std::optional<LayerNorm> there, absent;
  std::unique_ptr<RmsNorm> owned = std::make_unique<RmsNorm>(2);
  Outer() {
    for (int i = 0; i < 2; ++i) many.emplace_back(2, 2);
    there.emplace(2);
  }
  void visit(Visitor& part) {
    part("inner", inner), part("many", many), part("there", there), part("absent", absent),
        part("owned", owned);
  }
};
// The same parts, listed in another order.
struct Swapped {
  Linear first{2, 3}, second{3, 2};
  void visit(Visitor& part) { part("second", second), part("first", first); }
};

}  // namespace

TEST_CASE("linear, embedding and norms compute what is on paper") {
  const Linear linear = made(Linear(2, 2));
  set(linear.weight, {1, 2, 3, 4}), set(linear.bias, {10, 20});
  CHECK(linear(tensor_of({2}, {1, -1}, where)).value().to_vector() == Numbers{8, 18});

  const Embedding embedding = made(Embedding(3, 2));
  set(embedding.weight, {0, 1, 10, 11, 20, 21});
  CHECK(embedding(ids_of({2}, {2, 0}, where.device)).value().to_vector() == Numbers{20, 21, 0, 1});

  const LayerNorm layer = made(LayerNorm(4));
  set(layer.weight, {1, 1, 2, 1}), set(layer.bias, {0, 5, 0, 0});
  const Numbers y = layer(tensor_of({4}, {-1, 1, 1, -1}, where)).value().to_vector();
  const double r = 1 / std::sqrt(1 + 1e-5);
  for (const auto& [i, expected] : {std::pair<int, double>{0, -r}, {1, 5 + r}, {2, 2 * r}, {3, -r}})
    CHECK(y[i] == doctest::Approx(expected).epsilon(8 * u_f32));

  const RmsNorm rms = made(RmsNorm(2));
  const double root = std::sqrt((9 + 16) / 2.0 + 1e-5);
  CHECK(rms(tensor_of({2}, {3, 4}, where)).value().to_vector()[1] ==
        doctest::Approx(4 / root).epsilon(8 * u_f32));
}

TEST_CASE("parts are named by their paths; vectors by position, what is absent not at all") {
  const Outer outer = made(Outer());
  CHECK(names_of(parameters(outer)) ==
        std::vector<std::string>{"inner.first.weight", "inner.first.bias", "inner.second.weight",
                                 "inner.second.bias", "many.0.weight", "many.0.bias",
                                 "many.1.weight", "many.1.bias", "there.weight", "there.bias",
                                 "owned.weight"});
  CHECK(parameters(outer).elements() == 9 + 8 + 12 + 4 + 2);
}

TEST_CASE("layers of any kind in a row, local structs and lambdas too") {
  struct Scale {
    Parameter factor{Shape{3}, ones()};
    Var operator()(const Var& x) const { return x * factor; }
    void visit(Visitor& part) { part("factor", factor); }
  };
  Sequential body{Linear(2, 3), Scale(), [](const Var& x) { return relu(x); }, Linear(3, 1)};
  initialize(body, {where.device, where.dtype}, Seed{1});
  CHECK(names_of(parameters(body)) == std::vector<std::string>{"layers.0.weight", "layers.0.bias",
                                                               "layers.1.factor", "layers.3.weight",
                                                               "layers.3.bias"});
  const Numbers y = body(random_tensor({4, 2}, where, 1)).value().to_vector();
  CHECK(y.size() == 4);
}

TEST_CASE("first numbers depend on seed and name alone, not on the order of parts or the device") {
  const Inner a = made(Inner());
  const Swapped b = made(Swapped());
  const Inner c = made(Inner(), exact()), d = made(Inner(), where, 2);
  CHECK(bits_of(a.first.weight.master()) == bits_of(b.first.weight.master()));
  CHECK(bits_of(a.second.weight.master()) == bits_of(b.second.weight.master()));
  CHECK(a.first.weight.master().to_vector() == c.first.weight.master().to_vector());
  CHECK(a.first.weight.master().to_vector() != d.first.weight.master().to_vector());
  CHECK(a.first.weight.master().to_vector() != Numbers(a.second.weight.master().to_vector()));
}

TEST_CASE("normal numbers have their mean, deviation and shape; uniform ones their bounds") {
  const int64_t n = 100'000;
  const Linear drawn = made(Linear(n / 100, 100, normal(0.5)));
  double mean = 0, variance = 0, beyond = 0;
  for (double x : drawn.weight.master().to_vector()) {
    mean += x / n, variance += x * x / n;
    beyond += std::abs(x) > 1 ? 1.0 / n : 0;
  }
  // Five standard errors: 0.5/√n, 0.25·√(2/n), √(0.0455·0.9545/n).
  CHECK(std::abs(mean) < 5 * 0.5 / std::sqrt(n));
  CHECK(std::abs(variance - 0.25) < 5 * 0.25 * std::sqrt(2.0 / n));
  CHECK(std::abs(beyond - 0.0455) < 5 * std::sqrt(0.0455 * 0.9545 / n));
  const Linear flat = made(Linear(n / 100, 100, uniform(2)));
  mean = 0;
  for (double x : flat.weight.master().to_vector()) {
    REQUIRE((x >= -2 && x < 2));
    mean += x / n;
  }
  CHECK(std::abs(mean) < 5 * 2 / std::sqrt(3.0 * n));
}

TEST_CASE("patterns match whole names; a star stands for anything, also nothing") {
  CHECK(matches("h.0.ln_1.weight", "*ln_1*"));
  CHECK(matches("h.0.ln_1.weight", "h.*.weight"));
  CHECK(matches("weight", "*weight*"));
  CHECK(matches("", "*"));
  CHECK(!matches("h.0.weight", "h.0"));
  CHECK(!matches("h.0.weight", "0.weight"));
  CHECK(!matches("weight", ""));
  const Outer outer = made(Outer());
  const Parameters biases = parameters(outer).matching("*.bias");
  CHECK(biases.size() == 5);
  CHECK(parameters(outer).except(biases).size() == 6);
}

TEST_CASE("assign copies the numbers of one model into another of its structure") {
  const Inner from = made(Inner());
  Inner to = made(Inner(), where, 2);
  assign(to, from);
  CHECK(weight_bits(parameters(to)) == weight_bits(parameters(from)));
  CHECK(!to.first.weight.master().same_storage(from.first.weight.master()));
  Inner half = made(Inner(), {Device::cpu(), DType::bf16}, 2);
  (void)half.first.weight.state()->working();
  assign(half, from);
  CHECK(half.first.weight.state()->working().to_vector() ==
        tensor_of({2, 3}, from.first.weight.master().to_vector(), {Device::cpu(), DType::bf16})
            .to_vector());
  Linear other = made(Linear(2, 2));
  CHECK_THROWS_AS(assign(other, from.first), BadArgument);  // another shape
}

TEST_CASE("two parts of one name, no device, and a dtype that the device lacks are refused") {
  struct Clash {
    Linear a{2, 2}, b{2, 2};
    void visit(Visitor& part) { part("same", a), part("same", b); }
  } clash;
  CHECK(contains(message_of<BadArgument>([&] {
                   initialize(clash, {where.device, where.dtype}, Seed{1});
                 }),
                 "same.weight"));
  Linear linear(2, 2);
  CHECK_THROWS_AS(initialize(linear, {Device(), DType::f32}, Seed{1}), BadArgument);
  CHECK(contains(message_of<BadArgument>([&] {
                   initialize(linear, {Device::cpu(), DType::f64}, Seed{1});
                 }),
                 "f64"));
  CHECK_THROWS_AS(initialize(linear, {Device::cpu(), DType::i32}, Seed{1}), BadArgument);
  CHECK(
      contains(message_of<BadOrder>([&] { linear(random_tensor({2}, where, 1)); }), "initialize("));
}

TEST_CASE("dropout keeps its share, scales it, and is the identity outside of a scope") {
  const Dropout layer = made(Dropout(0.25));
  const int64_t n = 40'000;
  const Var x(tensor_of({2, n / 2}, Numbers(n, 3), where));
  CHECK(layer(x).value().same_storage(x.value()));
  const Recording scope({7, 8});
  const Numbers y = layer(x).value().to_vector();
  double kept = 0;
  for (double one : y) {
    REQUIRE((one == 0 || one == 4));
    kept += one / 4 / n;
  }
  CHECK(std::abs(kept - 0.75) < 5 * std::sqrt(0.75 * 0.25 / n));
  CHECK(layer(x).value().to_vector() != y);  // another call of the same site
  const Evaluation off;
  CHECK(layer(x).value().same_storage(x.value()));
}

TEST_CASE("dropout of a sample does not depend on its batch; sites and seeds differ") {
  const auto mask = [](std::vector<int64_t> samples, const RandomSite& site) {
    const auto n = static_cast<int64_t>(samples.size());
    const Recording scope(std::move(samples));
    return dropout(tensor_of({n, 16}, Numbers(n * 16, 1), where), 0.5, site).value().to_vector();
  };
  const RandomSite site{"a", Seed{1}};
  const Numbers both = mask({5, 9}, site);
  CHECK(mask({5}, site) == Numbers(both.begin(), both.begin() + 16));
  CHECK(mask({9}, site) == Numbers(both.begin() + 16, both.end()));
  CHECK(mask({5}, site) != mask({9}, site));
  CHECK(mask({5}, site) != mask({5}, {"b", Seed{1}}));
  CHECK(mask({5}, site) != mask({5}, {"a", Seed{2}}));
  CHECK(mask({5}, site) != mask({5 + (int64_t{1} << 32)}, site));
}

TEST_CASE("dropout refuses what is no probability, no samples, and rows that are none of them") {
  const RandomSite site{"a", Seed{1}};
  const Var x(random_tensor({3, 4}, where, 1));
  CHECK_THROWS_AS(dropout(x, 1, site), BadArgument);
  CHECK_THROWS_AS(dropout(x, -0.1, site), BadArgument);
  CHECK_THROWS_AS(dropout(x, NAN, site), BadArgument);
  {
    const Recording scope;
    CHECK(contains(message_of<BadArgument>([&] { dropout(x, 0.5, site); }), "samples"));
  }
  const Recording scope({1, 2});
  CHECK_THROWS_AS(dropout(x, 0.5, site), BadArgument);
}

TEST_CASE("cross-entropy counts valid targets, mean squared error elements") {
  const Var logits(random_tensor({2, 3, 5}, where, 1));
  CHECK(cross_entropy(logits, ids_of({2, 3}, {0, -100, 4, 1, -100, 2}, where.device))
            .count()
            .item() == 4);
  CHECK(cross_entropy(logits, ids_of({2, 3}, {0, 3, 4, 1, 3, 2}, where.device), 3).count().item() ==
        4);
  const Var uniform(tensor_of({2, 5}, Numbers(10, 7), where));
  const Loss loss = cross_entropy(uniform, ids_of({2}, {0, 4}, where.device));
  CHECK(loss.sum().value().item() == doctest::Approx(2 * std::log(5.0)).epsilon(8 * u_f32));
  CHECK(mean_squared_error(logits, random_tensor({2, 3, 5}, where, 2)).count().item() == 30);
}

TEST_CASE("losses refuse targets of another shape or dtype") {
  const Var logits(random_tensor({2, 3, 5}, where, 1));
  CHECK_THROWS_AS(cross_entropy(logits, ids_of({5}, {0, 1, 2, 3, 4}, where.device)), BadArgument);
  CHECK_THROWS_AS(cross_entropy(logits, random_tensor({2, 3}, where, 1)), BadArgument);
  const Tensor targets = ids_of({2, 3}, {0, 1, 2, 3, 4, 0}, where.device);
  CHECK_THROWS_AS(cross_entropy(logits, random_tensor({7, 4}, where, 1), targets), BadArgument);
  CHECK_THROWS_AS(cross_entropy(logits, random_tensor({7, 5}, where, 1), targets, -100, 0),
                  BadArgument);
  CHECK_THROWS_AS(mean_squared_error(logits, random_tensor({2, 3}, where, 2)), BadArgument);
}

}  // namespace accrue::test
