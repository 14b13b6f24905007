// The attention kernels of the CUDA backend, run thread by thread on the host.
#include <doctest/doctest.h>

#include "cuda/attention_on_host.h"
#include "kernels/cases.h"

namespace accrue::test {
namespace {

/// What is wrong in any case, with the block's threads in either order.
void check(const Row& row, const Backend& backend) {
  for (const Case& test_case : row.cases)
    for (const bool backwards : {false, true}) {
      backwards_threads = backwards;
      const std::string found = mismatch(row, test_case, {&backend}, {1});
      CHECK_MESSAGE(found.empty(), test_case.name << (backwards ? ", backwards: " : ": ") << found);
    }
}

}  // namespace

TEST_CASE("the CUDA kernels of attention equal the reference, whatever the order of threads") {
  const Backend backend = attention_backend();
  check(row<kernel::Attention>(attention_cases()), backend);
}

TEST_CASE("the CUDA kernels of attention's backward equal the reference") {
  const Backend backend = attention_backend();
  check(row<kernel::AttentionBackward>(attention_backward_cases()), backend);
}

}  // namespace accrue::test
