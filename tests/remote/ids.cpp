// Token ids in memory that the host cannot read are checked as they are on the host, and the check
// does not wait for the device.
#include <doctest/doctest.h>

#include "accrue/nn/ids.h"
#include "remote/device.h"
#include "support.h"

namespace accrue::test {
namespace {

using Ids = std::vector<int32_t>;

Gpt made() {
  Gpt model(tiny_gpt());
  initialize(model, {remote()}, Seed{1});
  return model;
}

/// What the model says to these tokens; empty if they are fine.
std::string said(const std::function<void()>& call) {
  try {
    call();
    return {};
  } catch (const BadArgument& error) {
    return error.what();
  }
}

std::string said_to_targets(const Ids& targets) {
  const Gpt model = made();
  return said([&] {
    const Var x = model.hidden(ids_of({1, 4}, {1, 2, 3, 4}, remote()));
    cross_entropy(x, model.head(), ids_of({1, 4}, targets, remote()));
  });
}

}  // namespace

TEST_CASE("an id beyond the table is refused before a kernel sees it") {
  const Gpt model = made();
  const auto V = static_cast<int32_t>(model.config.vocabulary);
  const auto said_to = [&](const Ids& ids) {
    return said([&] { model.hidden(ids_of({1, 4}, ids, remote())); });
  };
  CHECK(said_to({0, 1, V - 1, 2}).empty());
  CHECK(said_to({0, 1, V, 2}).find(text("got ", V, " at position 2")) != std::string::npos);
  CHECK(said_to({0, -100, 1, 2}).find("got -100 at position 1") != std::string::npos);
}

TEST_CASE("targets may be ignored, but no other number below zero passes") {
  CHECK(said_to_targets({-100, 1, -100, 2}).empty());
  CHECK(said_to_targets({-100, -100, -100, -100}).empty());
  CHECK(said_to_targets({-100, 1, -1, 2}).find("got -1 at position 2") != std::string::npos);
  CHECK(said_to_targets({-101, 1, -100, 2}).find("got -101 at position 0") != std::string::npos);
  CHECK(said_to_targets({1, 2, 3, 1 << 20}).find("at position 3") != std::string::npos);
}

TEST_CASE("a view is judged by its own ids") {
  const Gpt model = made();
  const Tensor all = ids_of({2, 2}, {1, 2, 3, 1 << 20}, remote());
  CHECK(said([&] { model.hidden(all.slice(0, 1)); }).empty());
  CHECK(said([&] { model.hidden(all.slice(1, 1)); }).find("at position 1") != std::string::npos);
}

TEST_CASE("ids that are fine cost no transfer") {
  const Gpt model = made();
  const Tensor ids = ids_of({1, 4}, {1, 2, 3, 4}, remote());
  const int64_t before = transfers().to_host;
  model.hidden(ids);
  CHECK(transfers().to_host == before);
}

TEST_CASE("on the host, views that are not contiguous are checked too") {
  Gpt model(tiny_gpt());
  initialize(model, {Device::cpu()}, Seed{1});
  const Tensor ids = ids_of({2, 2}, {1, 2, 1 << 20, 3}, Device::cpu()).transpose(0, 1);
  CHECK(said([&] { check_ids("embedding", ids, 11); }).find("at position 1") != std::string::npos);
}

}  // namespace accrue::test
