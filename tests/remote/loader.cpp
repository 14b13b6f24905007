// Batches that are made ahead: the ones that a loader without it gives, from any place.
#include "remote/training.h"

namespace accrue::test {
namespace {

TokenLoader loader_on(Device device, int64_t batch = 5) {
  return {Training::tokens(), {.context = 6, .batch = batch, .seed = Seed{3}, .device = device}};
}

/// Of both loaders' next batches.
void check_same(const TokenBatch& there, const TokenBatch& here) {
  CHECK(bits_of(there.tokens) == bits_of(here.tokens));
  CHECK(bits_of(there.targets) == bits_of(here.targets));
  CHECK(there.indices == here.indices);
  CHECK(there.counts == here.counts);
}

}  // namespace

TEST_CASE("batches made ahead are the same, over several epochs") {
  TokenLoader there = loader_on(remote()), here = loader_on(Device::reference());
  const int64_t before = transfers().uploads;
  int64_t batches = 0;
  while (here.epoch() < 3) {
    check_same(there.next(), here.next());
    CHECK(there.epoch() == here.epoch());
    CHECK(there.position() == here.position());
    ++batches;
  }
  CHECK(transfers().uploads - before == batches - 1);  // all but the first
}

TEST_CASE("what is made ahead is no part of the state, and is left where the place changes") {
  TokenLoader there = loader_on(remote()), here = loader_on(Device::reference());
  const auto both = [&](const auto& act) { act(there), act(here); };
  const auto peek = [&] { check_same(there.peek(), here.peek()); };
  peek(), peek();  // the same again
  both([](TokenLoader& one) { one.skip(); });
  peek();
  both([](TokenLoader& one) { one.set_batch(3); });  // another batch than the one made ahead
  peek();
  both([](TokenLoader& one) { one.next(); });
  peek();
  CHECK(state_bits(there) == state_bits(here));
  const std::string state = state_bits(there);
  both([](TokenLoader& one) { one.next(), one.next(); });
  CHECK(state_bits(there) != state);
  // A checkpoint's place, in an epoch that was not shuffled yet.
  both([](TokenLoader& one) {
    Visitor load({.integer = [](const std::string& name, int64_t& value) {
      value = name == "epoch" ? 7 : 2;
    }});
    one.visit(load);
  });
  peek();
  both([](TokenLoader& one) { one.skip(); });
  peek();
}

TEST_CASE("an id that the model does not have is refused in every batch, not in the first alone") {
  std::vector<int32_t> text(400, 1);
  text[300] = 9;
  TokenLoader loader(Tokens(text, 10),
                     {.context = 6, .batch = 1, .seed = Seed{3}, .device = remote()});
  Gpt model({.layers = 1, .heads = 1, .width = 8, .context = 6, .vocabulary = 5});
  initialize(model, {remote()}, Seed{1});
  int64_t refused = 0;
  for (const TokenBatch& batch : loader) {
    const std::vector<double> ids = batch.tokens.to_vector();
    if (std::ranges::count(ids, 9) == 0) {
      model.hidden(batch.tokens);
    } else {
      CHECK_THROWS_WITH_AS(model.hidden(batch.tokens), doctest::Contains("got 9"), BadArgument);
      ++refused;
    }
  }
  CHECK(refused == 1);
}

TEST_CASE("a loader that dies while the next batch is made waits for it") {
  for (int i = 0; i < 20; ++i) {
    TokenLoader loader = loader_on(remote(), 40);
    CHECK(loader.peek().indices.size() == 40);
  }
}

TEST_CASE("a dry run makes nothing ahead") {
  const ModeScope dry(Mode::dry);
  const int64_t before = transfers().uploads;
  TokenLoader loader = loader_on(remote());
  loader.next(), loader.next();
  CHECK(transfers().uploads == before);
}

}  // namespace accrue::test
