// A device that fails or runs out of memory in mid-cycle: the error arrives as it was thrown, and
// what was saved before is whole.
#include <doctest/doctest.h>

#include "core/temporary.h"
#include "remote/training.h"

namespace accrue::test {
namespace {

using testing::TemporaryFolder;

int64_t launches = 0, failing = -1;  // the launch that fails; none below zero
bool out_of_memory = false;

template <class Args>
void run_or_fail(const Args& args, void* workspace) {
  if (launches++ == failing) {
    if (out_of_memory) throw OutOfMemory("[allocate] expected room, got none");
    throw Failure("[cuda] expected a launch to succeed, got cudaErrorIllegalAddress");
  }
  std::get<Kernel<Args>>(remote().backend->kernels).run(args, workspace);
}

template <class... Args>
std::tuple<Kernel<Args>...> breaking(const std::tuple<Kernel<Args>...>& kernels) {
  return {Kernel<Args>{std::get<Kernel<Args>>(kernels).workspace, run_or_fail<Args>}...};
}

Device fragile() {
  static const Backend backend = [] {
    Backend result = *remote().backend;
    result.kernels = breaking(result.kernels);
    return result;
  }();
  return {&backend};
}

/// Saves after one step, then fails at that launch. Whether it did.
bool fails(int64_t launch, const std::string& folder) {
  failing = -1;
  Training training(fragile(), kahan());
  Checkpoint checkpoint(folder);
  training.parts(checkpoint);
  training.step();
  checkpoint.save(training.cycle.step(), training.cycle.micro_batches());
  checkpoint.wait();
  launches = 0, failing = launch;
  bool failed = false;
  if (out_of_memory) {
    try {
      training.step();
    } catch (const OutOfMemory& error) {
      failed = std::string(error.what()).starts_with("[allocate]");
    }
  } else {
    try {
      training.step();
    } catch (const Failure& error) {
      failed = std::string(error.what()).starts_with("[cuda]");
    }
  }
  failing = -1;
  return failed;
}

/// What a run that nothing stops has after three steps.
std::string uninterrupted() {
  Training training(remote(), kahan());
  for (int i = 0; i < 3; ++i) training.step();
  return training.bits();
}

}  // namespace

TEST_CASE("whichever launch of a cycle fails, the last checkpoint leads to the same bits") {
  const std::string right = uninterrupted();
  {  // how many launches a cycle with its step has
    const TemporaryFolder folder;
    CHECK(!fails(-1, folder.path()));
  }
  const int64_t all = launches;
  REQUIRE(all > 100);
  for (const bool memory : {false, true})
    for (const int64_t at : {int64_t{0}, int64_t{7}, all / 3, all / 2, all - 2, all - 1}) {
      INFO("launch ", at, " of ", all, memory ? ": no memory" : ": failure");
      out_of_memory = memory;
      const TemporaryFolder folder;
      CHECK(fails(at, folder.path()));
      Training training(remote(), kahan());
      Checkpoint checkpoint(folder.path());
      training.parts(checkpoint);
      REQUIRE(checkpoint.load());
      CHECK(checkpoint.warnings().empty());
      training.step(), training.step();
      CHECK(training.bits() == right);
    }
}

}  // namespace accrue::test
