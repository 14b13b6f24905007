// Shares of a product on matrix tiles. Without them oneDNN makes it, which promises no such bits.
#include <doctest/doctest.h>
#include <omp.h>

#include <array>
#include <vector>

#include "accrue/core/cpu/matmul_parts.h"
#include "kernels/cases.h"

namespace accrue::test {
namespace {

std::vector<double> product(const std::array<int64_t, 3>& sizes, Write write) {
  const auto& [M, N, K] = sizes;
  Stage stage(Device::cpu(), 1);
  const Tensor a = stage.random({M, K}, DType::bf16), b = stage.random({K, N}, DType::bf16);
  Tensor c = stage.random({M, N}, DType::f32);
  launch(Device::cpu(), kernel::Matmul{a.in(), b.in(), c.out(), write});
  return numbers_of(c);
}

bool on_tiles(const std::array<int64_t, 3>& sizes) {
  const auto& [M, N, K] = sizes;
  const Tensor a({M, K}, DType::bf16, Device::cpu()), b({K, N}, DType::bf16, Device::cpu());
  Tensor c({M, N}, DType::f32, Device::cpu());
  const kernel::Matmul args{a.in(), b.in(), c.out(), Write::set};
  return cpu::takes_tiles(cpu::Product(args));
}

}  // namespace

TEST_CASE("one thread that makes the blocks of four makes all of them, to the same bits") {
  if (!on_tiles({600, 200, 64})) {
    MESSAGE("skipped: this CPU, or this build, has no matrix tiles");
    return;
  }
  const int before = omp_get_max_threads();
  omp_set_num_threads(4);
  // Rows of a packed as a group, block by block, and some terms at a time.
  for (const auto& sizes :
       {std::array<int64_t, 3>{600, 200, 64}, {300, 200, 700}, {300, 300, 1700}, {33, 40, 9000}})
    for (Write write : both_writes) {
      const std::vector<double> all = product(sizes, write);
      std::vector<double> alone;
      int team = 0;
#pragma omp parallel num_threads(2)
#pragma omp single
      {
        // A region inside a region has one thread, which finds shares for four.
#pragma omp parallel reduction(+ : team)
        ++team;
        alone = product(sizes, write);
      }
      CHECK(team == 1);
      CHECK(alone == all);
    }
  omp_set_num_threads(before);
}

}  // namespace accrue::test
