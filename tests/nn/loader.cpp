// The loader: every sample once an epoch, an order that the seed decides, and a position that
// resumes.
#include "accrue/nn/loader.h"

#include <algorithm>
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "accrue/core/error.h"
#include "accrue/core/mode.h"
#include "core/temporary.h"

using namespace accrue;
using testing::contains;
using testing::message_of;
using Ids = std::vector<int32_t>;

namespace {

/// Tokens 0, 1, 2, …: a token says where it stands.
Tokens counting(int32_t size) {
  Ids ids(static_cast<size_t>(size));
  std::iota(ids.begin(), ids.end(), 0);
  return {std::move(ids), size};
}

TokenLoader loader_of(int32_t size, int64_t context, int64_t batch, int64_t seed = 1) {
  return {counting(size),
          {.context = context, .batch = batch, .seed = Seed{seed}, .device = Device::reference()}};
}

Ids ids_of(const Tensor& tensor) {
  const auto* data = tensor.data<int32_t>();
  return {data, data + tensor.elements()};
}

/// Where each sample of `count` batches begins.
std::vector<int32_t> starts(TokenLoader& loader, int64_t count) {
  std::vector<int32_t> result;
  for (int64_t i = 0; i < count; ++i) {
    const TokenBatch batch = loader.next();
    for (int64_t row = 0; row < batch.tokens.shape()[0]; ++row)
      result.push_back(batch.tokens.slice(row, 1).data<int32_t>()[0]);
  }
  return result;
}

/// What a checkpoint does with the state.
struct State {
  std::map<std::string, int64_t, std::less<>> values;
  bool restores = false;
  void operator()(std::string_view name, int64_t& value) {
    if (restores)
      value = values.at(std::string(name));
    else
      values[std::string(name)] = value;
  }
};

}  // namespace

TEST_CASE("targets are the tokens that follow") {
  TokenLoader loader = loader_of(100, 4, 3);
  for (int i = 0; i < 20; ++i) {
    const TokenBatch batch = loader.next();
    CHECK(batch.tokens.shape() == Shape{3, 4});
    CHECK(batch.targets.shape() == Shape{3, 4});
    const Ids tokens = ids_of(batch.tokens), targets = ids_of(batch.targets);
    for (size_t t = 0; t < tokens.size(); ++t) {
      CHECK(targets[t] == tokens[t] + 1);
      if (t % 4) CHECK(tokens[t] == tokens[t - 1] + 1);
    }
  }
}

TEST_CASE("an epoch has every window exactly once, one context apart, at any size of the text") {
  for (int32_t size = 6; size <= 40; ++size) {
    INFO("size ", size);
    TokenLoader loader = loader_of(size, 5, 1);
    const int64_t samples = loader.samples_per_epoch();
    CHECK(samples >= std::max<int64_t>(windows(counting(size), 5) - 1, 1));
    CHECK(loader.tokens_per_epoch() == samples * 5);
    for (int epoch = 0; epoch < 4; ++epoch) {
      std::vector<int32_t> first = starts(loader, samples);
      std::ranges::sort(first);
      CHECK(first.front() >= 0);
      CHECK(first.front() < 5);
      CHECK(first.back() + 5 < size);
      for (size_t i = 1; i < first.size(); ++i) CHECK(first[i] == first[i - 1] + 5);
    }
    CHECK(loader.epoch() == 4);
    CHECK(loader.position() == 0);
  }
}

TEST_CASE("every shift of the windows happens, so that no token is always the last") {
  TokenLoader loader = loader_of(64, 4, 1);
  std::set<int32_t> shifts;
  for (int epoch = 0; epoch < 60; ++epoch) {
    const auto first = starts(loader, loader.samples_per_epoch());
    shifts.insert(*std::ranges::min_element(first));
  }
  CHECK(shifts == std::set<int32_t>{0, 1, 2, 3});  // missing one: 4·(3/4)⁶⁰ ≈ 10⁻⁷
}

TEST_CASE("seed and epoch decide the order, and nothing else does") {
  TokenLoader a = loader_of(1000, 4, 10), b = loader_of(1000, 4, 10),
              other = loader_of(1000, 4, 10, 2);
  const auto order = starts(a, 20);
  CHECK(order == starts(b, 20));
  CHECK(order != starts(other, 20));
  TokenLoader by_epoch = loader_of(1000, 4, 1);
  const int64_t samples = by_epoch.samples_per_epoch();
  CHECK(starts(by_epoch, samples) != starts(by_epoch, samples));
  // The size of the effective batch cuts one and the same order.
  TokenLoader wide = loader_of(1000, 4, 50);
  CHECK(starts(wide, 4) == order);
}

TEST_CASE("a shuffle puts each window in each place equally often") {
  constexpr int epochs = 6000;
  TokenLoader loader = loader_of(26, 5, 1);  // four windows
  REQUIRE(loader.samples_per_epoch() == 4);
  int seen[4][4] = {};
  for (int epoch = 0; epoch < epochs; ++epoch) {
    const auto first = starts(loader, 4);
    for (int place = 0; place < 4; ++place) ++seen[place][first[place] / 5];
  }
  // A count is binomial (6000, 1/4): mean 1500, deviation √1125 ≈ 34; five of them.
  for (const auto& place : seen)
    for (int count : place) CHECK(std::abs(count - epochs / 4) < 5 * 34);
}

TEST_CASE("batches are always full, and global indices count on across epochs") {
  TokenLoader loader = loader_of(44, 4, 7);
  REQUIRE(loader.samples_per_epoch() == 10);
  int64_t expected = 0;
  for (int i = 0; i < 10; ++i) {
    const TokenBatch batch = loader.next();
    REQUIRE(batch.samples().size() == 7);
    for (int64_t index : batch.samples()) CHECK(index == expected++);
  }
  CHECK(loader.epoch() == 7);
  CHECK(loader.position() == 0);
  // Also where a batch is larger than an epoch.
  TokenLoader small = loader_of(12, 4, 7);
  CHECK(small.samples_per_epoch() == 2);
  CHECK(small.next().samples()[6] == 6);
  CHECK(small.epoch() == 3);
}

TEST_CASE("batches of changing size hand out the same samples in the same order") {
  TokenLoader fixed = loader_of(64, 4, 1), changing = loader_of(64, 4, 5);
  for (int64_t size : {3, 7, 1, 20, 5}) {
    changing.set_batch(size);
    const TokenBatch batch = changing.next();
    REQUIRE(batch.samples().size() == static_cast<size_t>(size));
    for (int64_t i = 0; i < size; ++i) {
      const TokenBatch one = fixed.next();
      CHECK(batch.indices[i] == one.indices[0]);
      CHECK(ids_of(batch.tokens.slice(i, 1)) == ids_of(one.tokens));
    }
  }
  CHECK_THROWS_AS(changing.set_batch(0), BadArgument);
}

TEST_CASE("one loop over the loader has the batches that begin in one epoch") {
  TokenLoader loader = loader_of(44, 4, 4);  // 10 samples
  const auto loop = [&] {
    int batches = 0;
    for (const TokenBatch& batch : loader) batches += batch.samples().size() == 4;
    return batches;
  };
  CHECK(loop() == 3);  // the third takes two samples of the second epoch
  CHECK(loader.epoch() == 1);
  CHECK(loader.position() == 2);
  CHECK(loop() == 2);
  CHECK(loader.epoch() == 2);
  CHECK(loader.position() == 0);
}

TEST_CASE("a restored loader continues with the same batches, from any position") {
  for (int64_t done : {0, 1, 2, 3, 7}) {
    TokenLoader loader = loader_of(44, 4, 4);
    for (int64_t i = 0; i < done; ++i) loader.next();
    State state;
    loader.visit(state);
    TokenLoader restored = loader_of(44, 4, 4);
    restored.next();  // a loader that is elsewhere already
    state.restores = true;
    restored.visit(state);
    for (int i = 0; i < 6; ++i) {
      const TokenBatch a = loader.next(), b = restored.next();
      CHECK(ids_of(a.tokens) == ids_of(b.tokens));
      CHECK(ids_of(a.targets) == ids_of(b.targets));
      CHECK(a.indices == b.indices);
    }
  }
}

TEST_CASE("a state saved after a batch in a loop resumes at the next one") {
  TokenLoader loader = loader_of(44, 4, 4);
  State state;
  Ids next;
  int batches = 0;
  for (const TokenBatch& batch : loader) {
    if (++batches == 2) next = ids_of(batch.tokens);
    if (batches == 1) loader.visit(state);
  }
  state.restores = true;
  loader.visit(state);
  CHECK(ids_of((*loader.begin()).tokens) == next);
}

TEST_CASE("a state of other data is refused") {
  TokenLoader loader = loader_of(44, 4, 4);
  for (const auto& [epoch, position] : {std::pair(0, 10), {0, -1}, {-1, 0}}) {
    State state{{{"epoch", epoch}, {"position", position}}, true};
    loader.visit(state);
    CHECK_THROWS_AS(loader.next(), BadArgument);
  }
}

TEST_CASE("a slice of a batch is a smaller batch of the same samples") {
  TokenLoader loader = loader_of(100, 4, 5);
  const TokenBatch batch = loader.next();
  const TokenBatch part = batch.slice(1, 3);
  CHECK(part.tokens.same_storage(batch.tokens));
  CHECK(ids_of(part.tokens) == ids_of(batch.tokens.slice(1, 3)));
  CHECK(ids_of(part.targets) == ids_of(batch.targets.slice(1, 3)));
  CHECK(part.indices == std::vector<int64_t>{1, 2, 3});
  CHECK(part.slice(2, 1).indices == std::vector<int64_t>{3});
  CHECK_THROWS_AS(batch.slice(3, 3), BadArgument);
}

TEST_CASE("a dry run's batches have shapes and indices, and the loader moves on") {
  TokenLoader loader = loader_of(100, 4, 5);
  const ModeScope dry(Mode::dry);
  const TokenBatch batch = loader.next();
  CHECK(batch.tokens.shape() == Shape{5, 4});
  CHECK(batch.tokens.data<int32_t>() == nullptr);
  CHECK(batch.slice(1, 2).indices == std::vector<int64_t>{1, 2});
  CHECK(loader.position() == 5);
}

TEST_CASE("validation windows follow each other and cover the text up to a rest") {
  const Tokens tokens = counting(14);
  CHECK(windows(tokens, 4) == 3);
  CHECK(windows(counting(13), 4) == 3);
  CHECK(windows(counting(12), 4) == 2);
  CHECK(windows(counting(4), 4) == 0);
  const TokenBatch batch = window_batch(tokens, 1, 2, 4, Device::reference());
  CHECK(ids_of(batch.tokens) == Ids{4, 5, 6, 7, 8, 9, 10, 11});
  CHECK(ids_of(batch.targets) == Ids{5, 6, 7, 8, 9, 10, 11, 12});
  CHECK(batch.indices == std::vector<int64_t>{1, 2});
  const std::string reason =
      message_of<BadArgument>([&] { window_batch(tokens, 2, 2, 4, Device::reference()); });
  CHECK(contains(reason, "among 3 of 4 tokens, got 2 from 2"));
  CHECK_THROWS_AS(window_batch(tokens, -1, 1, 4, Device::reference()), BadArgument);
  CHECK_THROWS_AS(windows(tokens, 0), BadArgument);
}

TEST_CASE("a text shorter than context + 1 and sizes of zero are refused") {
  CHECK(loader_of(5, 4, 1).samples_per_epoch() == 1);
  const std::string reason = message_of<BadArgument>([] { loader_of(4, 4, 1); });
  CHECK(contains(reason, "the context of 4, got 4"));
  CHECK_THROWS_AS(loader_of(10, 0, 1), BadArgument);
  CHECK_THROWS_AS(loader_of(10, 4, 0), BadArgument);
}

TEST_CASE("a batch that is looked at comes again until it is skipped, across epochs too") {
  TokenLoader looked = loader_of(50, 5, 4), taken = loader_of(50, 5, 4);
  for (int i = 0; i < 12; ++i) {
    const int64_t epoch = looked.epoch(), position = looked.position();
    const TokenBatch once = looked.peek(), again = looked.peek(), next = taken.next();
    CHECK(once.indices == next.indices);
    CHECK(again.indices == next.indices);
    CHECK(ids_of(once.tokens) == ids_of(next.tokens));
    CHECK(ids_of(again.targets) == ids_of(next.targets));
    CHECK(looked.epoch() == epoch);
    CHECK(looked.position() == position);
    looked.skip();
    CHECK(looked.epoch() == taken.epoch());
    CHECK(looked.position() == taken.position());
  }
  CHECK(looked.epoch() > 2);
}
