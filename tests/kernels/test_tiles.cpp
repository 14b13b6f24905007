// Products of f32 numbers on the CPU's matrix tiles, where it has them.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "accrue/core/cpu/matmul.h"
#include "kernels/cases.h"

namespace accrue::test {
namespace {

/// Allows them while it lives; false where the CPU has no tiles.
class OnTiles {
 public:
  OnTiles() {
    try {
      cpu::allow_f32_on_tiles(true);
    } catch (const Failure& error) {
      CHECK(std::string(error.what()).find("AMX") != std::string::npos);
      MESSAGE("skipped: no matrix tiles here");
      return;
    }
    have_ = true;
  }
  ~OnTiles() { cpu::allow_f32_on_tiles(false); }
  explicit operator bool() const { return have_; }

 private:
  bool have_ = false;
};

/// The row's cases whose numbers are f32.
template <class Args>
Row of_f32(const Cases& all) {
  Row chosen = row<Args>({});
  for (const Case& one : all)
    if (one.name.starts_with("f32→f32") || one.name.starts_with("f32 "))
      chosen.cases.push_back(one);
  return chosen;
}

struct Product {
  Stage stage{Device::reference(), 1};
  Tensor a = stage.random({64, 1500}, DType::f32), b = stage.random({1500, 96}, DType::f32);

  std::vector<double> on(Device device, DType dtype) {
    const auto in_dtype = [dtype](const Tensor& from) {
      Tensor to(from.shape(), dtype, Device::reference());
      launch(Device::reference(), kernel::Copy{from.in(), to.out(), Write::set});
      return to;
    };
    Tensor c({64, 96}, dtype, device);
    launch(device, kernel::Matmul{in_dtype(a).in(), in_dtype(b).in(), c.out(), Write::set});
    return numbers_of(c);
  }
};

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum);
}

}  // namespace

TEST_CASE("products of f32 on tiles equal the reference within the bound of plain ones") {
  const OnTiles on_tiles;
  if (!on_tiles) return;
  for (const Row& row : {of_f32<kernel::Matmul>(matmul_cases()),
                         of_f32<kernel::Matmul>(tile_matmul_cases(DType::f32)),
                         of_f32<kernel::MatmulUnary>(matmul_unary_cases()),
                         of_f32<kernel::MatmulUnaryBackward>(matmul_unary_backward_cases())}) {
    CHECK(row.cases.size() >= 12);
    for (const Case& one : row.cases) {
      const std::string found = mismatch(row, one, Device::cpu(), {1, 2, 5});
      CHECK_MESSAGE(found.empty(), row.name << ": " << one.name << ": " << found);
    }
  }
}

TEST_CASE("products of f32 on tiles are nearer to the exact ones than native products are") {
  Product product;
  const std::vector<double> exact = product.on(Device::reference(), DType::f64);
  const std::vector<double> native = product.on(Device::cpu(), DType::f32);
  const OnTiles on_tiles;
  if (!on_tiles) return;
  const std::vector<double> tiles = product.on(Device::cpu(), DType::f32);
  CHECK(distance(tiles, native) > 0);  // tiles were used
  CHECK(distance(tiles, exact) < distance(native, exact));
}

TEST_CASE("a number that is not finite does not get lost on tiles") {
  const OnTiles on_tiles;
  if (!on_tiles) return;
  for (const float bad : {std::numeric_limits<float>::infinity(), -std::nanf(""),
                          std::bit_cast<float>(0x7fffffffu), std::bit_cast<float>(0xff800001u)})
    for (const bool in_a : {false, true}) {
      Product product;
      (in_a ? product.a : product.b).data<float>()[33] = bad;
      int lost = 0;
      const std::vector<double> c = product.on(Device::cpu(), DType::f32);
      const size_t step = in_a ? 1 : 96, first = in_a ? 0 : 33;  // row 0, or column 33
      for (size_t i = first; i < (in_a ? 96 : c.size()); i += step) lost += std::isfinite(c[i]);
      CHECK(lost == 0);
    }
}

}  // namespace accrue::test
