// Bytes to and from host memory, and devices that are not built.
#include <doctest/doctest.h>

#include <cstdint>

#include "accrue/core/kernels.h"
#include "core/temporary.h"

using namespace accrue;
using testing::contains;
using testing::message_of;

namespace {

using Integers = std::vector<int64_t>;

constexpr int64_t large = (int64_t{1} << 53) + 1;  // no f64

Tensor integers() {
  const Integers values{large, 1, 2, 3, 4, 5};
  return Tensor::of<int64_t>({2, 3}, values, Device::reference());
}

Integers bytes_of(const Tensor& tensor) {
  Integers values(tensor.elements());
  tensor.copy_to_host(values.data());
  return values;
}

}  // namespace

TEST_CASE("bytes reach the host row-major from any strides, and come back into any strides") {
  Tensor tensor = integers();
  CHECK(bytes_of(tensor) == Integers{large, 1, 2, 3, 4, 5});
  CHECK(bytes_of(tensor.transpose(0, 1)) == Integers{large, 3, 1, 4, 2, 5});
  CHECK(bytes_of(tensor.slice(1, 1, 2)) == Integers{1, 2, 4, 5});
  Tensor part = tensor.transpose(0, 1).slice(1, 2);
  const Integers values{large, 7, 8, 9};
  part.copy_from_host(values.data());
  CHECK(bytes_of(tensor) == Integers{large, large, 8, 3, 7, 9});
}

TEST_CASE("devices of one memory share a tensor's numbers") {
  const Tensor tensor = integers();
  const Tensor same = tensor.to(Device::cpu());
  CHECK(same.device() == Device::cpu());
  CHECK(same.same_storage(tensor));
  CHECK(Device::cpu().on_host());
  CHECK_THROWS_AS(tensor.to(Device{}), BadArgument);
}

TEST_CASE("a build without CUDA says how to turn it on") {
  if (ACCRUE_BUILT_WITH_CUDA) return;
  CHECK_FALSE(Device::has_cuda());
  CHECK(contains(message_of<Failure>([] { Device::cuda(); }), "-DACCRUE_CUDA=ON"));
}
