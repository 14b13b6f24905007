// Sign vote: exact in any order, one byte a weight, refuses what a byte cannot hold.
#include "../../examples/accumulators/sign_vote.h"

#include <algorithm>

#include "sums.h"

namespace accrue::test {
namespace {

using examples::SignVote;

CycleFacts facts(double divisor) {
  CycleFacts result;
  result.divisor = divisor;
  return result;
}

Numbers votes(const Many& gradients, double divisor = 1) {
  const auto n = static_cast<int64_t>(gradients[0].size());
  return sum_of(std::make_shared<SignVote>(), {n}, gradients, facts(divisor));
}

}  // namespace

TEST_CASE("the majority's sign is the mean gradient; zero, NaN and a draw are no sign") {
  const Many gradients{
      {5, -1, 0, 1, NAN, INFINITY}, {-1, -1, 0, -100, -1, -1}, {1, 1e-30, 1, 0, 0, 1}};
  CHECK(votes(gradients, 8) == Numbers{8, -8, 8, 0, -8, 8});
}

TEST_CASE("any order of the micro-batches gives the same bits, where f32 does not") {
  Many gradients = random_gradients(100, 257, 1);
  const Numbers vote = votes(gradients), sum = sum_of(accumulators::f32(), {257}, gradients);
  std::mt19937_64 bits(1);
  bool f32_differs = false;
  for (int i = 0; i < 20; ++i) {
    std::shuffle(gradients.begin(), gradients.end(), bits);
    CHECK(votes(gradients) == vote);
    f32_differs = f32_differs || sum_of(accumulators::f32(), {257}, gradients) != sum;
  }
  CHECK(f32_differs);
}

TEST_CASE("127 votes of one kind are counted, the 128th is refused") {
  Many gradients(127, Numbers{1, -1});
  CHECK(votes(gradients) == Numbers{1, -1});
  gradients.push_back({1, -1});
  CHECK(contains(message_of<BadArgument>([&] { votes(gradients); }), "at most 127"));
}

TEST_CASE("votes need the total of the counts, and one byte a weight between micro-batches") {
  CHECK(contains(message_of<BadArgument>([] { votes({{1}}, -1); }), "count()"));
  CHECK(SignVote().bytes_per_weight(100) == 1);
  OneBuffer one(std::make_shared<SignVote>(), {512}, facts(1));
  const auto bytes = [] {
    return host_allocator().use().current[static_cast<int>(Tag::gradients)];
  };
  const int64_t before = bytes();
  one.add(random_tensor({512}, {Device::cpu(), DType::f32}, 1));
  CHECK(bytes() == before);
}

TEST_CASE("in a cycle each step of SGD moves every weight by lr, or not at all") {
  struct Counted : Rows {
    int64_t count() const { return y.elements(); }
    Counted slice(int64_t first, int64_t n) const { return {Rows::slice(first, n)}; }
  };
  Linear model(3, 2);
  initialize(model, {Device::cpu()}, Seed{1});
  const Parameters all = parameters(model);
  const Many before = weights_of(all);
  Sgd sgd(all, {.lr = 0.25});
  Cycle cycle(all, {.accumulate = {{"*", std::make_shared<SignVote>()}}});
  const Counted batch{random_rows(9, 3, 2, {Device::cpu(), DType::f32}, 1)};
  sgd.step(cycle.run(batch, {.samples = 3}, [&](const Counted& micro) {
    return mean_squared_error(model(micro.x), micro.y);
  }));
  const Many after = weights_of(all);
  bool moved = false;
  for (size_t p = 0; p < after.size(); ++p)
    for (size_t i = 0; i < after[p].size(); ++i) {
      const double by = std::abs(after[p][i] - before[p][i]);
      // The weight is below 2: adding 1/4 rounds by at most 2⁻²⁴.
      CHECK((by == 0 || std::abs(by - 0.25) <= 0x1p-24));
      moved = moved || by > 0;
    }
  CHECK(moved);
}

}  // namespace accrue::test
