// Uses an installed accrue beside this project's own core/tensor.h: 2·3 + 4·5 on both backends.
#include "accrue/core/kernels.h"
#include "core/tensor.h"

using namespace accrue;

static double dot(Device device) {
  const float left[] = {2, 4}, right[] = {3, 5};
  const Tensor a = Tensor::of<float>({1, 2}, left, device);
  const Tensor b = Tensor::of<float>({2, 1}, right, device);
  Tensor c({1, 1}, DType::f32, device);
  launch(device, kernel::Matmul{a.in(), b.in(), c.out(), Write::set});
  return c.item();
}

int main() {
  const bool sums = dot(Device::cpu()) == 26 && dot(Device::reference()) == 26;
  return sums && outside::tensor == 42 ? 0 : 1;
}
