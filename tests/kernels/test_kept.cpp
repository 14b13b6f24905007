// What the CPU's products keep of a weight: the kernels' table cannot tell a kept copy from a new
// one.
#include <doctest/doctest.h>

#include <vector>

#include "kernels/cases.h"

namespace accrue::test {

TEST_CASE(
    "a weight's transpose is made once, and again only when the weight is said to have changed") {
  Stage stage(Device::cpu(), 1);
  const Tensor x = stage.random({130, 40}, DType::f32), other = stage.random({48, 40}, DType::f32);
  Tensor weight = stage.random({48, 40}, DType::f32), y({130, 48}, DType::f32, Device::cpu());
  weight.keep_packs();
  const auto product = [&] {
    launch(Device::cpu(), kernel::Matmul{x.in(), weight.transpose(0, 1).in(), y.out(), Write::set});
    return numbers_of(y);
  };
  const std::vector<double> before = product();
  launch(Device::cpu(), kernel::Copy{other.in(), weight.out(), Write::set});
  CHECK(product() == before);  // the old numbers: nothing was made anew
  weight.keep_packs().invalidate();
  CHECK(product() != before);
}

}  // namespace accrue::test
