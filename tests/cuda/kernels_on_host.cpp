// The kernels of cuda/ as they are written, run on the host a thread at a time: every case equals
// the reference. What a device does otherwise (memory, streams, rounding of fast exponentials) is
// not seen here.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>

#include "cuda/on_host/backend.h"
#include "cuda/on_host/grid.h"
#include "kernels/cases.h"

namespace accrue::test {
namespace {

using on_host::blockIdx;
using on_host::threadIdx;

bool is_of_libraries(const Row& row) {
  return row.name.find("Matmul") != std::string::npos ||
         row.name.find("Attention") != std::string::npos;
}

// Fibers are slow, above all under sanitizers: some of the table's cases, which are made for real
// devices. ACCRUE_EVERY_CASE=1: all.
bool is_chosen(const std::string& name) {
#if defined(__SANITIZE_ADDRESS__)
  constexpr uint64_t of = 128;
#else
  constexpr uint64_t of = 4;
#endif
  return std::getenv("ACCRUE_EVERY_CASE") || hash_of(0, name) % of == 0;
}

}  // namespace

TEST_CASE("every kernel's code equals the reference, in any order of its threads") {
  for (const Row& row : table()) {
    if (is_of_libraries(row)) continue;
    for (const Case& one : row.cases) {
      if (!is_chosen(one.name)) continue;
      INFO(row.name << ": " << one.name);
      const std::string found = mismatch(row, one, cuda_on_host(), {1});
      CHECK_MESSAGE(found.empty(), found);
    }
  }
}

TEST_CASE("threads of a block see what others wrote before a barrier, and only then") {
  int sums[2][64];
  const auto run = [&](bool waits) {
    on_host::launch(2, 64, [&] {
      static int shared[64];
      const auto me = static_cast<int>(threadIdx.x);
      shared[me] = me + static_cast<int>(blockIdx.x);
      if (waits) on_host::sync();
      sums[blockIdx.x][me] = shared[63 - me];
      if (waits) on_host::sync();
      shared[me] = -1;
    });
    bool right = true;
    for (int b = 0; b < 2; ++b)
      for (int i = 0; i < 64; ++i) right = right && sums[b][i] == 63 - i + b;
    return right;
  };
  CHECK(run(true));
  CHECK_FALSE(run(false));
}

TEST_CASE("what a block's threads share is no number before they write it") {
  bool all = true;
  on_host::launch(2, 32, [&] {
    static float shared[32];
    on_host::shared(shared, sizeof shared);
    all = all && std::isnan(shared[31 - threadIdx.x]);
    on_host::sync();
    shared[threadIdx.x] = 1;
  });
  CHECK(all);
}

TEST_CASE("lanes exchange words within their warp") {
  uint64_t got[64];
  on_host::launch(1, {32, 2}, [&] {
    const uint32_t me = threadIdx.x + 32 * threadIdx.y;
    got[me] = on_host::exchange(on_host::exchange(me, 1) * 100, 16);
  });
  for (uint64_t i = 0; i < 64; ++i) CHECK(got[i] == (i ^ 16 ^ 1) * 100);
}

TEST_CASE("barriers that some never reach, lanes that are gone and impossible grids are refused") {
  const auto some_wait = [] {
    if (threadIdx.x == 5)
      on_host::sync();
    else
      on_host::exchange(0, 1);
  };
  CHECK_THROWS_WITH_AS(on_host::launch(1, 64, some_wait), doctest::Contains("at one barrier"),
                       Failure);
  const auto lanes_differ = [] { on_host::exchange(0, threadIdx.x == 5 ? 2 : 1); };
  CHECK_THROWS_WITH_AS(on_host::launch(1, 32, lanes_differ), doctest::Contains("same bits"),
                       Failure);
  const auto lane_ends = [] {
    if (threadIdx.x != 5) on_host::exchange(0, 1);
  };
  CHECK_THROWS_WITH_AS(on_host::launch(1, 32, lane_ends), doctest::Contains("has ended"), Failure);
  int ran = 0;
  on_host::launch(2, 32, [&] { ++ran, on_host::sync(); });  // the next one finds all in order
  CHECK(ran == 64);
  for (const auto& [grid, block] :
       {std::pair<on_host::dim3, on_host::dim3>{0, 32}, {1, 0}, {1, 1025}, {{1, 65536}, 32}})
    CHECK_THROWS_AS(on_host::launch(grid, block, [] {}), Failure);
}

}  // namespace accrue::test
