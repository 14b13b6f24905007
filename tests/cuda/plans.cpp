// How work is cut into blocks: every element belongs to exactly one, and orders are as said.
#include "accrue/cuda/plans.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "accrue/cuda/embedding_plan.h"
#include "accrue/cuda/norm_plan.h"
#include "accrue/cuda/staging_ring.h"

namespace accrue::test {
namespace {

using namespace accrue::cuda;

/// What runs_kernel and joins_kernel do with rows sorted by id: for each id its positions, in the
/// order of their additions; an entry of −1 says that a sum so far was added.
std::map<int32_t, std::vector<int64_t>> additions(const std::vector<int32_t>& ids) {
  const SortedRuns runs{ids.data(), static_cast<int64_t>(ids.size())};
  const int64_t chunks = SortedRuns::chunks(runs.rows);
  std::vector<std::vector<int64_t>> heads(chunks), tails(chunks);
  std::map<int32_t, std::vector<int64_t>> table;
  const auto deposit = [&](int32_t id, const std::vector<int64_t>& sum) {
    REQUIRE(!table.contains(id));  // one writer for each row of the table
    table[id] = sum;
  };
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    bool came = runs.comes(chunk);
    std::vector<int64_t> sum;
    for (int64_t p = runs.first(chunk); p < runs.last(chunk); ++p) {
      sum.push_back(p);
      const int64_t next = p + 1;
      if (next < runs.last(chunk) && ids[next] == ids[p]) continue;
      if (came)
        heads[chunk] = sum;
      else if (next == runs.last(chunk) && runs.goes_on(chunk))
        tails[chunk] = sum;
      else
        deposit(ids[p], sum);
      came = false;
      sum.clear();
    }
  }
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    if (!runs.begins(chunk)) continue;
    std::vector<int64_t> sum = tails[chunk];
    for (int64_t next = chunk + 1; next < runs.end_of_run(chunk); ++next)
      sum.insert(sum.end(), heads[next].begin(), heads[next].end());
    deposit(ids[runs.last(chunk) - 1], sum);
  }
  return table;
}

}  // namespace

TEST_CASE("chunks of rows cover all of them once, at most as many as asked") {
  for (int64_t rows : {0, 1, 15, 16, 17, 528, 8447, 8448, 8449, 65536, 100003})
    for (int64_t most : {1, 7, 528}) {
      const RowChunks chunks(rows, 16, most);
      CAPTURE(rows);
      CHECK(chunks.count <= most);
      int64_t next = 0;
      for (int64_t i = 0; i < chunks.count; ++i) {
        CHECK(chunks.first(i) == next);
        CHECK(chunks.first(i + 1) > next);
        next = chunks.first(i + 1);
      }
      CHECK(next == rows);
    }
}

TEST_CASE("column sums need no workspace where one chunk is all, and fit a grid else") {
  CHECK(ColumnPlan(32, 768, 256).partials() == 0);
  for (int64_t rows : {33, 65536})
    for (int64_t columns : {1, 768, 50257, 1 << 22}) {
      const ColumnPlan plan(rows, columns, 256);
      CHECK(plan.tiles * 256 >= columns);
      CHECK(plan.chunks.count >= 1);
      CHECK(plan.chunks.count <= 65535);
      CHECK(plan.partials() == (plan.chunks.count > 1 ? plan.chunks.count * columns : 0));
    }
}

TEST_CASE("every chunk of a table of items finds its item, in as few launches as fit") {
  struct Item {
    int64_t elements, number;
  };
  constexpr int capacity = 8;
  const std::vector<int64_t> sizes{1, 4096, 0, 4097, 100000, 3, 0, 1, 1, 1, 1, 8192, 5, 0};
  std::vector<int64_t> covered(sizes.size());
  int launches = 0;
  for_tables<Item, capacity>(
      static_cast<int64_t>(sizes.size()), 4096,
      [&](int64_t i) {
        return Item{sizes[i], i};
      },
      [&](const ItemTable<Item, capacity>& table, uint32_t chunks) {
        ++launches;
        for (uint32_t c = 0; c < chunks; ++c) {
          const int at = table.find(c);
          const Item& item = table.items[at];
          const int64_t begin = int64_t{c - table.first_chunk[at]} * 4096;
          CHECK(begin == covered[item.number]);
          covered[item.number] = std::min(begin + 4096, item.elements);
        }
      });
  CHECK(covered == sizes);
  CHECK(launches == 2);  // eleven items that are not empty, eight at a time
}

TEST_CASE("a row of a normalization belongs to its threads' vectors without gap") {
  for (size_t element : {2, 4, 8})
    for (int64_t columns : {1, 7, 8, 64, 256, 768, 1024, 1032, 4096, 8192, 8200, 50257}) {
      const NormPlan plan(10, columns, element, true);
      CAPTURE(columns);
      const int64_t threads = plan.one_warp ? 32 : NormPlan::block;
      const int64_t held = plan.vectors * threads * plan.width;
      if (plan.vectors == 0)
        CHECK((columns % plan.width != 0 || columns > 4 * NormPlan::block * plan.width));
      else
        CHECK((held >= columns && held - columns < threads * plan.width));
      CHECK(NormPlan(10, columns, element, false).vectors == 0);
    }
  CHECK(NormPlan(1, 768, 2, true).one_warp);
  CHECK(NormPlan(1, 768, 2, true).vectors == 3);
}

TEST_CASE("sorted rows are added once each, id by id, in their order") {
  std::mt19937 random(7);
  for (int64_t rows : {1, 31, 32, 33, 64, 100, 1000})
    for (int32_t vocabulary : {1, 2, 5, 40, 100000}) {
      std::vector<int32_t> ids(rows);
      for (int32_t& id : ids) id = static_cast<int32_t>(random() % vocabulary);
      std::sort(ids.begin(), ids.end());
      std::map<int32_t, std::vector<int64_t>> expected;
      for (int64_t p = 0; p < rows; ++p) expected[ids[p]].push_back(p);
      CAPTURE(rows);
      CAPTURE(vocabulary);
      CHECK(additions(ids) == expected);
    }
}

TEST_CASE("the parts of the embedding's workspace are aligned and do not overlap") {
  const EmbeddingWorkspace parts(1000, 33, 4, 777);
  const size_t starts[] = {parts.keys, parts.rows, parts.sorted_rows, parts.sums, parts.sort};
  const size_t bytes[] = {4000, 4000, 4000, size_t{2} * 32 * 33 * 4, 777};
  for (int i = 0; i < 5; ++i) {
    CHECK(starts[i] % 256 == 0);
    CHECK(starts[i] + bytes[i] <= (i < 4 ? starts[i + 1] : parts.total));
  }
}

TEST_CASE("a staging ring fills its segments one after another") {
  StagingRing ring{1024, 3};
  ring.take(1);
  CHECK(ring.offset() == 256);
  ring.take(512);
  CHECK(ring.room() == 256);
  ring.take(200);
  CHECK(ring.room() == 0);
  ring.next();
  CHECK(ring.offset() == 1024);
  ring.next();
  ring.next();
  CHECK(ring.offset() == 0);
}

}  // namespace accrue::test
