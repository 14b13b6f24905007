// The seam for operations over a whole cycle: exact BatchNorm through an unchanged closure.
#include "laws/cycle_norm.h"

namespace accrue::test {
namespace {

constexpr int64_t rows = 48;

struct Result {
  Many sums;
  double loss;
};

// Micro-batches of the given sizes, which run() alone could not have: the batch says how it is cut.
struct Ragged : Rows {
  std::vector<int64_t> sizes;  // of the pieces; a "sample" of this batch is one piece
  std::vector<int64_t> pieces;

  Ragged(const Rows& all, std::vector<int64_t> cut) : Rows(all), sizes(std::move(cut)) {
    pieces.resize(sizes.size());
    std::iota(pieces.begin(), pieces.end(), int64_t{0});
  }
  std::span<const int64_t> samples() const { return pieces; }
  Ragged slice(int64_t first, int64_t count) const {
    const auto at = sizes.begin() + first;
    const int64_t from = std::accumulate(sizes.begin(), at, int64_t{0});
    const int64_t size = std::accumulate(at, at + count, int64_t{0});
    return {Rows::slice(from, size), {at, at + count}};
  }
};

Result run(const ResidualNet& net, const Rows& batch, const std::vector<int64_t>& sizes) {
  net.forget();
  Cycle cycle(parameters(net));
  const ClosedCycle closed = cycle.run(Ragged(batch, sizes), {.samples = 1},
                                       [&](const Ragged& micro) { return net.loss(micro); });
  CHECK(closed.micro_batches().value == static_cast<int64_t>(sizes.size()));
  return {sums_of(closed), closed.mean_loss()};
}

const Rows batch = random_rows(rows, 6, 3, exact(), 1);

}  // namespace

TEST_CASE("a norm over the cycle equals one batch to 1e-12, however ragged the split") {
  const ResidualNet net;
  const Result one = run(net, batch, {rows});
  for (const auto& sizes : {std::vector<int64_t>{24, 24},
                            {17, 1, 30},
                            std::vector<int64_t>(24, 2),
                            std::vector<int64_t>(48, 1)}) {
    CAPTURE(sizes.size());
    const Result split = run(net, batch, sizes);
    CHECK(relative_error(split.sums, one.sums) <= 1e-12);
    CHECK(std::abs(split.loss / one.loss - 1) <= 1e-12);
  }
}

TEST_CASE("the same by micro-batch size, the last one smaller") {
  const ResidualNet net;
  const Result one = run(net, batch, {rows});
  for (int64_t size : {5, 7, 13, 17, 47, 48}) {
    net.forget();
    Cycle cycle(parameters(net));
    const ClosedCycle closed =
        cycle.run(batch, {.samples = size}, [&](const Rows& micro) { return net.loss(micro); });
    CHECK(relative_error(sums_of(closed), one.sums) <= 1e-12);
    CHECK(closed.count() == rows * 3);
  }
}

TEST_CASE("its gradient over the cycle equals central differences") {
  const ResidualNet net;
  const std::vector<int64_t> sizes{17, 1, 30};
  const Result rule = run(net, batch, sizes);
  // h² and u/h are both near 4e-11 (see operation.cpp); the loss is a sum of 144 terms, so a sum's
  // third derivatives and roundings are a hundred times one term's, and the loss about as large.
  constexpr double h = 0x1p-17, allowed = 100 * 100 * (h * h + u_f64 / h);
  const Parameters all = parameters(net);
  for (size_t i = 0; i < all.size(); ++i)
    for (int64_t e = 0; e < all.list[i]->shape.elements(); e += 7) {
      double* weight = all.list[i]->master.data<double>() + e;
      const double before = *weight;
      *weight = before + h;
      const double above = run(net, batch, sizes).loss;
      *weight = before - h;
      const double below = run(net, batch, sizes).loss;
      *weight = before;
      const double difference = (above - below) / (2 * h) * (rows * 3);
      CHECK(std::abs(difference - rule.sums[i][e]) <= allowed);
    }
}

TEST_CASE("normalising each micro-batch by itself fails the law") {
  const ResidualNet net;
  const Result one = run(net, batch, {rows});
  Many alone;  // Σ of the micro-batches' gradients, each with its own moments
  for (const auto& [first, size] : {std::pair<int64_t, int64_t>{0, 24}, {24, 24}}) {
    const Result part = run(net, batch.slice(first, size), {size});
    if (alone.empty())
      alone = part.sums;
    else
      for (size_t i = 0; i < alone.size(); ++i)
        for (size_t e = 0; e < alone[i].size(); ++e) alone[i][e] += part.sums[i][e];
  }
  CHECK(relative_error(alone, one.sums) > 0.01);
}

TEST_CASE("by hand a cycle operation throws, names the closure form, and the cycle goes on") {
  const ResidualNet net;
  Cycle cycle(parameters(net));
  {
    MicroScope scope = cycle.begin(batch);
    const std::string message = message_of<NeedsClosure>([&] { (void)net.loss(batch); });
    CHECK_MESSAGE((contains(message, "cycle_norm") && contains(message, "Cycle::run")), message);
  }
  CHECK(cycle.micro_batches() == MicroStep{0});
  net.forget();
  CHECK(relative_error(sums_of(cycle.run(batch, {.samples = 13},
                                         [&](const Rows& micro) { return net.loss(micro); })),
                       run(net, batch, {rows}).sums) <= 1e-12);
}

TEST_CASE("cycle after cycle, and after training steps, the law holds") {
  ResidualNet split, whole;
  Cycle of_split(parameters(split)), of_whole(parameters(whole));
  Sgd a(parameters(split), {.lr = 0.05, .momentum = 0.9}),
      b(parameters(whole), {.lr = 0.05, .momentum = 0.9});
  for (int step = 0; step < 3; ++step) {
    split.forget(), whole.forget();
    a.step(of_split.run(batch, {.samples = 7}, [&](const Rows& r) { return split.loss(r); }));
    b.step(of_whole.run(batch, {.samples = 48}, [&](const Rows& r) { return whole.loss(r); }));
    CHECK(relative_error(weights_of(parameters(split)), weights_of(parameters(whole))) <= 1e-11);
  }
}

TEST_CASE("folded accumulators see each micro-batch of a whole cycle") {
  const ResidualNet net;
  const Result one = run(net, batch, {rows});
  net.forget();
  Cycle cycle(parameters(net), {.accumulate = accumulators::parse("kahan")});
  const ClosedCycle closed =
      cycle.run(batch, {.samples = 13}, [&](const Rows& micro) { return net.loss(micro); });
  CHECK(relative_error(sums_of(closed), one.sums) <= 1e-12);
}

TEST_CASE("choices that need micro-batches one after another are refused with cycle operations") {
  const auto refusal = [](const CycleOptions& options) {
    const ResidualNet net;
    Cycle cycle(parameters(net), options);
    return message_of<BadArgument>([&] {
      (void)cycle.run(Ragged(batch, {24, 24}), {.samples = 1},
                      [&](const Ragged& micro) { return net.loss(micro); });
    });
  };
  CHECK(contains(refusal({.filter = filters::clip(1)}), "no filter"));
  CHECK(contains(refusal({.noise_scale = true}), "no noise scale"));
  for (const auto& accumulator : accumulators::all()) {
    const std::string message = refusal({.accumulate = {{"*", accumulator}}});
    CAPTURE(message);
    CHECK(contains(message, "use f32 or kahan") == accumulator->whole_micro());
    if (!accumulator->whole_micro()) CHECK(message == "nothing was thrown");
  }
}

TEST_CASE("stopping at the edge behind a whole cycle, it can still be closed") {
  const ResidualNet net;
  const Result one = run(net, batch, {rows});
  net.forget();
  bool stop = true;
  Cycle cycle(parameters(net), {.at_edge = [&](MicroStep) {
                if (stop) throw Failure("[test] stopped");
              }});
  const auto loss = [&](const Rows& micro) { return net.loss(micro); };
  CHECK_THROWS_AS((void)cycle.run(batch, {.samples = 13}, loss), Failure);
  stop = false;
  CHECK(cycle.micro_batches() == MicroStep{4});
  const ClosedCycle closed = cycle.run(batch, {.samples = 13}, loss);
  CHECK(relative_error(sums_of(closed), one.sums) <= 1e-12);
}

TEST_CASE("frozen layers and dropout beside a cycle operation") {
  const ResidualNet net;
  const RandomSite site{"site", Seed{1}};
  freeze(parameters(net).matching("layers.1.*"));
  const auto result = [&](int64_t size) {
    net.forget();
    Cycle cycle(parameters(net).except(parameters(net).matching("layers.1.*")));
    return sums_of(cycle.run(batch, {.samples = size}, [&](const Rows& micro) {
      return mean_squared_error(dropout(net(dropout(micro.x, 0.2, site)), 0.2, site), micro.y);
    }));
  };
  const Many one = result(48);
  CHECK(relative_error(result(13), one) <= 1e-12);
  CHECK(relative_error(result(1), one) <= 1e-12);
}

TEST_CASE("a cycle operation on constants, and a loss of constants, need no gradient") {
  const ResidualNet net;
  const CycleNorm first;
  const auto run = [&](int64_t size) {
    *first.cycle = {};
    net.forget();
    Cycle cycle(parameters(net));
    return sums_of(cycle.run(batch, {.samples = size}, [&](const Rows& micro) {
      return mean_squared_error(net(gelu(first(scale(micro.x, 2)))), micro.y);
    }));
  };
  CHECK(relative_error(run(13), run(48)) <= 1e-12);
  const auto constant = [&](const Rows& micro) {
    return mean_squared_error(first(micro.x), micro.x);
  };
  *first.cycle = {};
  Cycle cycle(parameters(net));
  const ClosedCycle closed = cycle.run(batch, {.samples = 13}, constant);
  for (const auto& buffer : closed.buffers()) CHECK(!buffer->touched());
  CHECK(closed.mean_loss() > 0);
}

TEST_CASE("recorded outside of a cycle, a cycle operation takes its batch for the whole") {
  const ResidualNet net;
  const Result one = run(net, batch, {rows});
  net.forget();
  const Recording scope(batch.indices);
  Tensor gradient = empty_like(batch.x);
  const Var x(batch.x, Deposit(gradient.out(), Write::set));
  const Loss loss = mean_squared_error(net(x), batch.y);
  CHECK(std::abs(loss.sum().value().item() / (one.loss * rows * 3) - 1) <= 1e-12);
  backward(loss.sum(), tensor_of({1}, {1}, exact()));
  CHECK(norm(gradient.to_vector()) > 0);
}

}  // namespace accrue::test
