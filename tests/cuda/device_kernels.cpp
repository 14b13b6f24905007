// Every kernel of the CUDA backend equals the reference, twice to the same bits. Skipped where
// there is no device; `remote` shows that what would find a wrong kernel there does.
#include <doctest/doctest.h>

#include "cuda/device.h"
#include "cuda/through_device.h"
#include "kernels/cases.h"
#include "remote/device.h"

namespace accrue::test {
namespace {

/// Each `step`th case of every kernel, twice to the same bits.
void check(Device device, size_t step) {
  for (const Row& row : table())
    for (size_t i = 0; i < row.cases.size(); i += step) {
      INFO(row.name << ": " << row.cases[i].name);
      const std::string found = mismatch(row, row.cases[i], device, {1});
      CHECK_MESSAGE(found.empty(), found);
    }
}

/// remote with a Fill that writes one element too many.
Device careless() {
  static const Backend backend = [] {
    Backend result = *remote().backend;
    std::get<Kernel<kernel::Fill>>(result.kernels) = {nullptr, [](const kernel::Fill& args, void*) {
                                                        kernel::Fill longer = args;
                                                        longer.to.shape[0] += 1;
                                                        launch(remote(), longer);
                                                      }};
    return result;
  }();
  return {&backend};
}

}  // namespace

TEST_CASE("every kernel of cuda equals the reference in every case" *
          doctest::test_suite("device")) {
  if (!without_device()) check(through<Device::cuda>(), 1);
}

TEST_CASE("tensors travel to a device and back") { check(through<remote>(), 21); }

TEST_CASE("a kernel that writes beside its places on a device is found") {
  const auto fill = [](Stage& stage) {
    Tensor x = stage.out({7}, DType::f32, Write::set, {});
    stage.launch(kernel::Fill{x.out(), 3});
  };
  CHECK_NOTHROW(run_case({"fill", fill}, through<remote>()));
  CHECK_THROWS_AS(run_case({"fill", fill}, through<careless>()), Failure);
}

TEST_CASE("bytes survive the way to the device and back" * doctest::test_suite("device")) {
  if (without_device()) return;
  const Backend& backend = *Device::cuda().backend;
  // Beyond what the staging ring holds at once (32 MiB), and ragged.
  for (size_t bytes : {size_t{1}, size_t{257}, (size_t{4} << 20) + 1, (size_t{70} << 20) + 3}) {
    std::vector<uint8_t> there(bytes), back(bytes);
    for (size_t i = 0; i < bytes; ++i) there[i] = static_cast<uint8_t>(i * 2654435761u >> 13);
    Tensor device({static_cast<int64_t>(bytes)}, DType::u8, Device::cuda());
    backend.from_host(device.out().data, there.data(), bytes);
    const std::vector<uint8_t> sent = there;
    std::fill(there.begin(), there.end(), uint8_t{0});  // the host's bytes may be used again
    backend.to_host(back.data(), device.in().data, bytes);
    CHECK(back == sent);
  }
}

TEST_CASE("without a device, cuda() says what is missing and what to do") {
  if (Device::has_cuda()) return;
  std::string message;
  try {
    Device::cuda();
  } catch (const Failure& failure) {
    message = failure.what();
  }
  CHECK(message.starts_with("[device] expected "));
  CHECK(message.find("Device::cpu()") + message.find("ACCRUE_CUDA") != 2 * std::string::npos);
}

}  // namespace accrue::test
