// Every kernel of the CUDA backend but products and attention equals the reference, twice to the
// same bits. Skipped where there is no device.
#include <doctest/doctest.h>

#include "cuda/through_lists.h"
#include "kernels/cases.h"

namespace accrue::test {
namespace {

template <class Args>
void check(const Cases& cases) {
  Backend backend = *Device::reference().backend;
  std::get<Kernel<Args>>(backend.kernels) = {nullptr, through_device<Args>};
  const Row row = test::row<Args>(cases);
  for (const Case& test_case : row.cases) {
    const std::string found = mismatch(row, test_case, {&backend}, {1});
    CHECK_MESSAGE(found.empty(), row.name << ": " << test_case.name << ": " << found);
  }
}

/// Says why nothing is tested.
bool without_device() {
  if (Device::has_cuda()) return false;
  MESSAGE("skipped: no GPU can be used here");
  return true;
}

using namespace kernel;

}  // namespace

TEST_CASE("cuda's elementwise kernels equal the reference") {
  if (without_device()) return;
  check<Copy>(copy_cases());
  check<Fill>(fill_cases());
  check<Binary>(binary_cases());
  check<Unary>(unary_cases());
  check<UnaryBackward>(unary_backward_cases());
  check<Scale>(scale_cases());
  check<Dropout>(dropout_cases());
  check<Rope>(rope_cases());
}

TEST_CASE("cuda's sums and normalizations equal the reference") {
  if (without_device()) return;
  check<SumTo>(sum_to_cases());
  check<Dot>(dot_cases());
  check<Norm>(norm_cases());
  check<NormBackward>(norm_backward_cases());
}

TEST_CASE("cuda's embeddings and losses equal the reference") {
  if (without_device()) return;
  check<Embedding>(embedding_cases());
  check<EmbeddingBackward>(embedding_backward_cases());
  check<CrossEntropy>(cross_entropy_cases());
  check<CrossEntropyBackward>(cross_entropy_backward_cases());
  check<CountTargets>(count_targets_cases());
  check<SquaredError>(squared_error_cases());
  check<SquaredErrorBackward>(squared_error_backward_cases());
}

TEST_CASE("cuda's folds and optimizers equal the reference") {
  if (without_device()) return;
  check<Map<fold::Add>>(add_cases());
  check<Map<fold::AddTwo>>(add_two_cases());
  check<Map<fold::AddThree>>(add_three_cases());
  check<Map<fold::Kahan>>(kahan_cases());
  check<Map<fold::Average>>(average_cases());
  check<Map<fold::Swap>>(swap_cases());
  check<StochasticAdd>(stochastic_add_cases());
  check<FixedPointAdd>(fixed_point_add_cases());
  check<Sgd>(sgd_cases());
  check<Adam>(adam_cases());
}

TEST_CASE("bytes survive the way to the device and back, of any number") {
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
