// Index arithmetic of the attention kernels, and the host's copy of a block of GPU threads.
#include <doctest/doctest.h>

#include <numeric>
#include <set>

#include "accrue/cuda/attention_dropout.h"
#include "cuda/host_lanes.h"

namespace accrue::test {
namespace {

using namespace cuda;

/// A tile whose element (row, column) is the whole number row·width + column.
std::vector<Float16> numbered_tile(int rows, int width) {
  std::vector<Float16> tile(rows * width);
  for (int row = 0; row < rows; ++row)
    for (int column = 0; column < width; ++column)
      tile[tile_place(row, column, width)].bits = static_cast<uint16_t>(row * width + column);
  return tile;
}

void run_warp(const std::function<void(const HostLanes&)>& body) {
  HostBlock::run(1, warp_size, false, body);
}

/// Sums of a block whose threads exchange numbers, with or without a barrier between.
int neighbours(bool backwards, bool barrier) {
  std::vector<int> shared(64), seen(64);
  HostBlock::run(1, 64, backwards, [&](const HostLanes& lanes) {
    shared[lanes.thread()] = lanes.thread() + 1;
    if (barrier) lanes.sync();
    seen[lanes.thread()] = shared[(lanes.thread() + 1) % 64] * (lanes.thread() + 1);
  });
  return std::accumulate(seen.begin(), seen.end(), 0);
}

}  // namespace

TEST_CASE("a tile's places are all different, and eight rows of a chunk lie in different banks") {
  for (const int width : {64, 128}) {
    std::set<int> places;
    for (int row = 0; row < 32; ++row)
      for (int column = 0; column < width; ++column) places.insert(tile_place(row, column, width));
    CHECK(static_cast<int>(places.size()) == 32 * width);
    CHECK(*places.rbegin() == 32 * width - 1);
    for (int row = 0; row < 32; row += 8)
      for (int column = 0; column < width; column += chunk) {
        std::set<int> banks;  // of 4 bytes; a chunk begins at a multiple of four of them
        for (int i = 0; i < 8; ++i) banks.insert(tile_place(row + i, column, width) / 2 % 32);
        CHECK(banks.size() == 8);
      }
  }
}

TEST_CASE("a step in a tile leads to the place of its row and column") {
  for (const int width : {64, 128})
    for (int row = 0; row < 16; ++row)
      for (int column = 0; column < 16; column += 8)
        for (int down = 0; down < 32; down += 8)
          for (int right = 0; right < width; right += 16)
            CHECK(tile_step(tile_place(row, column, width), down, right, width) ==
                  tile_place(row + down, column + right, width));
}

TEST_CASE("each lane gets the numbers of a fragment that its places say") {
  constexpr int width = 64, row = 16, column = 32;
  const std::vector<Float16> tile = numbered_tile(64, width);
  const auto at = [](int r, int c) { return (row + r) * width + column + c; };
  run_warp([&](const HostLanes& lanes) {
    const auto address = [&](Place p) {
      return tile.data() + tile_place(row + p.row, column + p.column, width);
    };
    const int lane = lanes.thread();
    uint32_t words[4];
    lanes.load_matrices(words, address(rows_of_terms(lane)));
    for (int i = 0; i < 4; ++i) {
      const Place place = left_place(lane, i);
      CHECK(static_cast<int>(words[i] & 0xffff) == at(place.row, place.column));
      CHECK(static_cast<int>(words[i] >> 16) == at(place.row, place.column + 1));
    }
    lanes.load_matrices(words, address(columns_of_terms(lane)));
    for (int i = 0; i < 4; ++i) {  // stored [column][term]
      const Place place = right_place(lane, i % 2);
      CHECK(static_cast<int>(words[i] & 0xffff) == at(place.column + i / 2 * 8, place.row));
      CHECK(static_cast<int>(words[i] >> 16) == at(place.column + i / 2 * 8, place.row + 1));
    }
    lanes.load_transposed(words, address(rows_of_terms(lane)));
    for (int i = 0; i < 4; ++i) {  // stored [term][column]
      const Place place = right_place(lane, i % 2);
      CHECK(static_cast<int>(words[i] & 0xffff) == at(place.row, place.column + i / 2 * 8));
      CHECK(static_cast<int>(words[i] >> 16) == at(place.row + 1, place.column + i / 2 * 8));
    }
  });
}

TEST_CASE("blocks take every part of every head once, the later queries first where asked") {
  std::set<std::array<int, 3>> tasks;
  for (int64_t block = 0; block < 3 * 5 * 4; ++block) {
    const Task task = task_of(block, 4, 5, 64, true);
    CHECK((task.first % 64 == 0 && task.first < 256 && task.head < 5 && task.sample < 3));
    tasks.insert({task.first, task.head, task.sample});
  }
  CHECK(tasks.size() == 60);
  CHECK(task_of(0, 4, 5, 64, true).first == 192);
  CHECK(task_of(0, 4, 5, 64, false).first == 0);
}

TEST_CASE("the lanes of a warp hold the draws of their elements, whatever the length") {
  const int64_t sample = (int64_t{3} << 32) + 5;
  DropoutArgs args{&sample, 1, {hash_of(1, "draws"), 4}, 0, 1};
  for (const int length : {64, 68, 33, 30}) {
    const AttentionSizes sizes{1, length, 70'000, 64, 1};  // elements beyond 32 bits
    const int h = 69'999;
    const auto expected = [&](int query, int key) {
      const uint64_t e = (uint64_t{h} * length + query) * length + key;
      return args.key.draw(sample, e / 4)[e % 4];
    };
    run_warp([&](const HostLanes& lanes) {
      const DropoutHead head(args, sizes, 0, h);
      const Place first = sum_place(lanes.thread(), 0);
      uint32_t draws[4];
      draw_queries(lanes, head, 8 + first.row, 16 + first.column, draws);
      for (int i = 0; i < 4; ++i) {
        const Place place = sum_place(lanes.thread(), i);
        CHECK(draws[i] == expected(8 + place.row, 16 + place.column));
      }
      draw_keys(lanes, head, 8 + first.row, 16 + first.column, draws);
      for (int i = 0; i < 4; ++i) {
        const Place place = sum_place(lanes.thread(), i);
        CHECK(draws[i] == expected(16 + place.column, 8 + place.row));
      }
    });
  }
}

TEST_CASE("a missing barrier makes the result depend on the order of threads") {
  CHECK(neighbours(false, true) == neighbours(true, true));
  CHECK(neighbours(false, false) != neighbours(true, false));
}

TEST_CASE("threads that wait for each other for ever are an error") {
  CHECK_THROWS_AS(HostBlock::run(1, 64, false,
                                 [](const HostLanes& lanes) {
                                   if (lanes.thread() == 0) lanes.sync();
                                 }),
                  std::logic_error);
}

TEST_CASE("copies to shared memory are there after the wait, and not before") {
  alignas(16) uint32_t from[4] = {1, 2, 3, 4}, to[4] = {9, 9, 9, 9};
  run_warp([&](const HostLanes& lanes) {
    if (lanes.thread() != 0) return;
    lanes.copy_16(to, from, true);
    CHECK(to[0] == 9);
    lanes.wait_for_copies();
    CHECK(to[3] == 4);
    lanes.copy_4(to, from, false);
    lanes.wait_for_copies();
    CHECK(to[0] == 0);
    CHECK_THROWS_AS(lanes.copy_16(to + 1, from, true), std::logic_error);
  });
}

}  // namespace accrue::test
