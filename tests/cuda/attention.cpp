// The attention kernels of the CUDA backend, run thread by thread on the host.
#include <doctest/doctest.h>

#include <cstdlib>

#include "cuda/attention_on_host.h"
#include "kernels/cases.h"

namespace accrue::test {
namespace {

/// Each case runs twice, to the same bits: once the first thread of a block goes first, once the
/// last.
void check(const Row& row) {
  const Backend backend = attention_backend();
  // A memory checker (core/allocator.h) makes them fourteen times as slow: then each fifth.
  const size_t step = std::getenv("ACCRUE_NO_CACHE") ? 5 : 1;
  for (size_t i = 0; i < row.cases.size(); i += step) {
    const Case& test_case = row.cases[i];
    // The largest: the others have as many blocks and steps, at a third of the time.
    const std::string& name = test_case.name;
    if (name.find("B 3 T 127") != name.npos || name.find("T 257") != name.npos) continue;
    const std::string found = mismatch(row, test_case, {&backend}, {1});
    CHECK_MESSAGE(found.empty(), test_case.name << ": " << found);
  }
}

}  // namespace

TEST_CASE("the CUDA kernels of attention equal the reference, whatever the order of threads") {
  check(row<kernel::Attention>(attention_cases()));
}

TEST_CASE("the CUDA kernels of attention's backward equal the reference") {
  check(row<kernel::AttentionBackward>(attention_backward_cases()));
}

}  // namespace accrue::test
