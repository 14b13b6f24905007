// The tape: what backward leaves behind, how deep it may be, and who may write where. Two passes
// over one graph are law 3: laws/kept_graph.cpp.
#include "support.h"

namespace accrue::test {
namespace {

int64_t live_activations() {
  return host_allocator().use().current[static_cast<int>(Tag::activations)];
}

// y = x, and a look at what backward is handed.
struct Watch {
  std::vector<Tensor>* seen;
  Tensor forward(Saved&, const Tensor& x) const { return x; }
  void backward(const Saved&, const Tensor& dy, Edge dx) const {
    seen->push_back(dy);
    dx.pass(dy);
  }
};

// Deposits twice where others deposit once: the second may not show in what was passed on.
struct PassThenAdd {
  Tensor forward(Saved&, const Tensor& x) const { return x; }
  void backward(const Saved&, const Tensor& dy, Edge dx) const {
    dx.pass(dy);
    dx.pass(dy);
  }
};

struct Leaf {
  Tensor data, gradient;
  Var var;
  explicit Leaf(const Tensor& numbers)
      : data(numbers),
        gradient(empty_like(numbers)),
        var(data, Deposit(gradient.out(), Write::set)) {}
};

Tensor ones_like(const Var& v) {
  return tensor_of(v.shape(), Numbers(v.value().elements(), 1), {v.device(), v.dtype()});
}

}  // namespace

TEST_CASE("a graph that was released cannot go backward again") {
  const Recording scope;
  Leaf x(random_tensor({3}, exact(), 1));
  const Var y = sum(x.var);
  backward(y, ones_like(y));
  CHECK_THROWS_AS(backward(y, ones_like(y)), BadOrder);
}

TEST_CASE("a tape of 200,000 operations does not overflow the stack") {
  Var survivor;
  {
    const Recording scope;
    Leaf x(random_tensor({1}, exact(), 1));
    Var y = x.var;
    for (int i = 0; i < 200'000; ++i) y = scale(y, 1);
    survivor = y;
    SUBCASE("run backward") {
      backward(y, ones_like(y));
      CHECK(x.gradient.item() == 1);
    }
    SUBCASE("kept") {
      backward(y, ones_like(y), Graph::keep);
      CHECK(x.gradient.item() == 1);
    }
    SUBCASE("never run backward") {}
  }
  CHECK(survivor.value().elements() == 1);  // its value lives on, its history does not
  survivor = Var();
}

TEST_CASE("a Var of a scope that has ended cannot be used in another") {
  Var old;
  Leaf x(random_tensor({3}, exact(), 1));
  {
    const Recording scope;
    old = scale(x.var, 2);
  }
  const Recording scope;
  const std::string message = message_of<BadOrder>([&] { scale(old, 2); });
  CHECK(contains(message, "scale"));
  CHECK(contains(message, "detach()"));
  CHECK(scale(old.detach(), 2).value().to_vector()[0] == 4 * x.data.to_vector()[0]);
}

TEST_CASE("a Var of an outer scope cannot be used in an inner one") {
  const Recording outer;
  Leaf x(random_tensor({3}, exact(), 1));
  const Var y = scale(x.var, 2);
  const Recording inner;
  CHECK_THROWS_AS(scale(y, 2), BadOrder);
  CHECK_THROWS_AS(backward(y, ones_like(y)), BadOrder);
  CHECK_NOTHROW(scale(x.var, 2));  // a leaf belongs to no tape
}

TEST_CASE("backward needs a scope, and a cotangent of the value's shape") {
  Leaf x(random_tensor({3}, exact(), 1));
  CHECK(contains(message_of<BadOrder>([&] { backward(x.var, x.data); }), "Recording"));
  const Recording scope;
  const Var y = scale(x.var, 2);
  CHECK(contains(message_of<BadArgument>([&] { backward(y, random_tensor({4}, exact(), 1)); }),
                 "[3]"));
}

TEST_CASE("evaluation inside a scope remembers nothing") {
  const Recording scope;
  Leaf x(random_tensor({3}, exact(), 1));
  Var teacher;
  {
    const Evaluation off;
    teacher = gelu(x.var);
    CHECK(Tape::current() == nullptr);
  }
  CHECK(teacher.node() == nullptr);
  const Var y = sum(teacher * x.var);
  backward(y, ones_like(y));
  CHECK(x.gradient.to_vector() == teacher.value().to_vector());
}

TEST_CASE("a residual sum hands its gradient on uncopied") {
  std::vector<Tensor> seen;
  const Recording scope;
  Leaf x(random_tensor({64, 64}, exact(), 1));
  const Var a = record("watch", Watch{&seen}, x.var);
  const Var b = record("watch", Watch{&seen}, scale(a, 3));
  const Var y = a + b;
  const Tensor dy = random_tensor({64, 64}, exact(), 2);
  host_allocator().reset_peak();
  const int64_t before = live_activations();
  backward(y, dy, Graph::keep);
  // b's side and a's side of the sum are the caller's own tensor; a's slot was then added to.
  REQUIRE(seen.size() == 2);
  CHECK(seen[0].same_storage(dy));
  CHECK(!seen[1].same_storage(dy));
  const auto peak = host_allocator().use().peak[static_cast<int>(Tag::activations)];
  CHECK(peak - before == static_cast<int64_t>(dy.bytes()));  // one copy, for a's second deposit
  const Numbers expected = dy.to_vector(), actual = x.gradient.to_vector();
  for (size_t i = 0; i < expected.size(); ++i) REQUIRE(actual[i] == 4 * expected[i]);
}

TEST_CASE("x + f(x) makes no copy of a gradient that nobody else holds") {
  const Recording scope;
  Leaf x(random_tensor({64, 64}, exact(), 1));
  Var h = scale(x.var, 1);
  for (int i = 0; i < 3; ++i) h = h + scale(h, 0.5);
  const Var y = scale(h, 1);  // so that the caller's cotangent is not the one that is passed on
  Tensor dy = random_tensor({64, 64}, exact(), 2);
  const auto bytes = static_cast<int64_t>(dy.bytes());
  host_allocator().reset_peak();
  const int64_t before = live_activations();
  backward(y, dy, Graph::keep);
  // dy of the sum serves as the gradient of f's side too; only the skip's own slot is new. It takes
  // its copy while f's rule still reads the shared one: two at one time, whatever the depth.
  const auto peak = host_allocator().use().peak[static_cast<int>(Tag::activations)];
  CHECK(peak - before <= 2 * bytes);
  CHECK(x.gradient.to_vector()[0] == doctest::Approx(1.5 * 1.5 * 1.5 * dy.to_vector()[0]));
}

TEST_CASE("what was passed on uncopied is copied before it is written to") {
  const Recording scope;
  Leaf x(random_tensor({5}, exact(), 1));
  const Var y = record("twice", PassThenAdd{}, scale(x.var, 1));
  const Tensor dy = random_tensor({5}, exact(), 2);
  const Numbers before = dy.to_vector();
  backward(y, dy);
  CHECK(dy.to_vector() == before);
  for (size_t i = 0; i < before.size(); ++i) CHECK(x.gradient.to_vector()[i] == 2 * before[i]);
}

TEST_CASE("backward frees gradients as it goes") {
  const Recording scope;
  Leaf x(random_tensor({64, 64}, exact(), 1));
  Var y = x.var;
  for (int i = 0; i < 20; ++i) y = scale(y, 1);
  const Tensor dy = random_tensor({64, 64}, exact(), 2);
  host_allocator().reset_peak();
  const int64_t before = live_activations();
  backward(y, dy, Graph::keep);
  CHECK(host_allocator().use().peak[static_cast<int>(Tag::activations)] - before <=
        2 * static_cast<int64_t>(dy.bytes()));
}

TEST_CASE("recomputation inside recomputation is refused") {
  const Recording scope;
  Leaf x(random_tensor({3}, exact(), 1));
  CHECK_THROWS_AS(recompute([&] { return recompute([&] { return gelu(x.var); }); }), BadOrder);
  CHECK_NOTHROW(recompute([&] { return gelu(x.var); }));  // the outer interval has ended
}

TEST_CASE("recomputation works over a kept graph, and beside intervals without operations") {
  const auto gradient = [](bool forget, int passes) {
    const Recording scope;
    Leaf x(random_tensor({3, 4}, exact(), 1));
    const Var constant = random_tensor({3, 4}, exact(), 2);
    const auto run = [&](auto part) { return forget ? recompute(part) : part(); };
    Var y = run([&] { return gelu(x.var) * x.var; });
    const Var c = run([&] { return gelu(constant); });  // records nothing
    y = sum(run([&] { return y * c; }));
    for (int i = 0; i < passes; ++i) backward(y, ones_like(y), Graph::keep);
    return x.gradient.to_vector();
  };
  for (int passes : {1, 2}) CHECK(gradient(true, passes) == gradient(false, passes));
}

TEST_CASE("recomputation saves nothing of its interval") {
  const auto saved = [](bool forget) {
    const Recording scope;
    Leaf x(random_tensor({64, 64}, exact(), 1));
    const int64_t before = live_activations();
    auto part = [&] { return gelu(gelu(gelu(gelu(x.var)))); };
    const Var y = forget ? recompute(part) : part();
    return (live_activations() - before) / static_cast<int64_t>(x.data.bytes());
  };
  CHECK(saved(true) == 1);  // its result
  CHECK(saved(false) == 4);
}

TEST_CASE("shapes that do not fit name the operation and both shapes") {
  const auto t = [](const Shape& shape) { return Var(random_tensor(shape, exact(), 1)); };
  const std::string add = message_of<BadArgument>([&] { t({2, 3}) + t({2, 4}); });
  CHECK_MESSAGE((contains(add, "[add]") && contains(add, "[2, 3]") && contains(add, "[2, 4]")),
                add);
  const std::string product = message_of<BadArgument>([&] { matmul(t({2, 3}), t({4, 5})); });
  CHECK_MESSAGE((contains(product, "[matmul]") && contains(product, "[2, 3]")), product);
  CHECK_THROWS_AS(linear(t({2, 3}), t({3, 4}), t({5})), BadArgument);
  CHECK_THROWS_AS(layer_norm(t({2, 3}), t({4}), t({3})), BadArgument);
  CHECK_THROWS_AS(slice(t({2, 3}), 1, 2), BadArgument);
  CHECK_THROWS_AS(reshape(t({2, 3}), {4, 2}), BadArgument);
  CHECK_THROWS_AS(rope(t({1, 2, 18}), 2), BadArgument);
  CHECK_THROWS_AS(causal_attention(t({1, 2, 13}), 2, 0, {}), BadArgument);
  const Var across(t({2, 12, 3}).value().transpose(1, 2)), gain = t({12});
  for (const auto& operation : std::vector<std::function<void()>>{
           [&] { causal_attention(across, 2, 0, {}); }, [&] { rope(across, 2); },
           [&] { layer_norm(across, gain, gain); }, [&] { rms_norm(across, gain); }})
    CHECK(contains(message_of<BadArgument>(operation), "contiguous"));
  const Var single(random_tensor({3, 4}, {Device::reference(), DType::f32}, 1));
  CHECK_THROWS_AS(matmul(single, t({4, 2})), BadArgument);
}

TEST_CASE("operations on different dtypes are refused") {
  const Var wide(random_tensor({3, 4}, exact(), 1));
  const Var narrow(random_tensor({3, 4}, {Device::reference(), DType::f32}, 1));
  CHECK_THROWS_AS(wide + narrow, BadArgument);
  CHECK_THROWS_AS(wide * narrow, BadArgument);
}

}  // namespace accrue::test
