// Dropout of attention on a device. Skipped where there is no device.
#include <doctest/doctest.h>

#include "cuda/device.h"
#include "cuda/through_device.h"
#include "kernels/cases.h"

namespace accrue::test {

TEST_CASE("attention on the device drops exactly what the host drops" *
          doctest::test_suite("device")) {
  if (without_device()) return;
  // Equal scores and v one-hot: y[t, s] is 1/(t + 1)/(1 − p) where s is kept, else exactly 0.
  constexpr int64_t T = 64, H = 2;
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const Tensor zero({1, T, H, T}, dtype, Device::reference());
    launch(Device::reference(), kernel::Fill{Tensor(zero).out(), 0});
    std::vector<double> numbers(T * H * T);
    for (int64_t s = 0; s < T; ++s)
      for (int64_t h = 0; h < H; ++h) numbers[(s * H + h) * T + s] = 1;
    const Tensor exact = Tensor::of<double>({1, T, H, T}, numbers, Device::reference());
    Tensor v({1, T, H, T}, dtype, Device::reference());
    launch(Device::reference(), kernel::Copy{exact.in(), v.out(), Write::set});
    const Tensor samples =
        Tensor::of<int64_t>({1}, std::vector<int64_t>{(int64_t{1} << 33) + 9}, Device::reference());
    const auto kept = [&](const Device& device) {
      Tensor y({1, T, H, T}, dtype, Device::reference());
      Tensor logsum({1, H, T}, DType::f32, Device::reference());
      launch(device, kernel::Attention{zero.in(),
                                       zero.in(),
                                       v.in(),
                                       y.out(),
                                       logsum.out(),
                                       0.4,
                                       samples.in(),
                                       {hash_of(3, "mask"), 1}});
      std::vector<bool> result;
      for (const double number : numbers_of(y)) result.push_back(number != 0);
      return result;
    };
    CHECK(kept(through<Device::cuda>()) == kept(Device::reference()));
  }
}

}  // namespace accrue::test
