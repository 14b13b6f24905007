// Running, counting only, shapes only: what each leaves out.
#include "accrue/core/mode.h"

#include <doctest/doctest.h>

#include <thread>

#include "accrue/core/kernels.h"

using namespace accrue;

namespace {

int runs = 0;

/// A backend whose one kernel counts its runs and wants 100 bytes of workspace.
Device counting_device() {
  static const Backend backend = [] {
    Backend made{"counting", &host_allocator(), is_floating, {}};
    auto& fill = std::get<Kernel<kernel::Fill>>(made.kernels);
    fill.workspace = [](const kernel::Fill&) -> size_t { return 100; };
    fill.run = [](const kernel::Fill&, void* workspace) { runs += workspace != nullptr; };
    return made;
  }();
  return {&backend};
}

int64_t peak_workspace(bool dry) {
  return host_allocator().use(dry).peak[static_cast<int>(Tag::workspace)];
}

/// Launches the kernel in this mode; returns how often it ran and the workspace it took.
std::pair<int, int64_t> launched(Mode mode) {
  const ModeScope scope(mode);
  const bool dry = mode == Mode::dry;
  host_allocator().reset_peak(dry);
  const int64_t workspace_before = peak_workspace(dry);
  const int runs_before = runs;
  launch(counting_device(), kernel::Fill{{}, 0});
  return {runs - runs_before, peak_workspace(dry) - workspace_before};
}

}  // namespace

TEST_CASE("a kernel runs, is only counted, or is not asked, by mode") {
  CHECK(launched(Mode::run) == std::pair(1, int64_t{100}));
  CHECK(launched(Mode::dry) == std::pair(0, int64_t{100}));
  CHECK(launched(Mode::shapes) == std::pair(0, int64_t{0}));
}

TEST_CASE("a dry tensor counts in the dry ledger only, and reads as ones") {
  const MemoryUse real = host_allocator().use(), dry = host_allocator().use(true);
  const ModeScope scope(Mode::dry);
  Tensor tensor({5, 2}, DType::f64, Device::reference());
  CHECK(host_allocator().use(true).total == dry.total + 80);
  CHECK(host_allocator().use().total == real.total);
  CHECK(tensor.data<double>() == nullptr);
  CHECK(tensor.slice(1, 2).data<double>() == nullptr);
  CHECK(tensor.slice(0, 2).to_vector() == std::vector<double>(4, 1.0));
  CHECK(tensor.sharers() == 1);
}

TEST_CASE("a dry tensor leaves the dry ledger even where it dies outside the dry run") {
  const MemoryUse real = host_allocator().use(), dry = host_allocator().use(true);
  Tensor tensor;
  {
    const ModeScope scope(Mode::dry);
    tensor = Tensor({10}, DType::f32, Device::reference());
  }
  tensor = Tensor();
  CHECK(host_allocator().use(true).total == dry.total);
  CHECK(host_allocator().use().total == real.total);
}

TEST_CASE("a tensor of shapes only has no storage and counts nowhere") {
  const MemoryUse real = host_allocator().use(), dry = host_allocator().use(true);
  const ModeScope scope(Mode::shapes);
  Tensor tensor({5, 2}, DType::f32, Device::reference());
  CHECK(tensor.transpose(0, 1).shape() == Shape{2, 5});
  CHECK(tensor.sharers() == 0);
  CHECK(tensor.data<float>() == nullptr);
  CHECK(host_allocator().use(true).total == dry.total);
  CHECK(host_allocator().use().total == real.total);
}

TEST_CASE("scopes nest, end with exceptions, and belong to their thread") {
  CHECK(current_mode() == Mode::run);
  try {
    const ModeScope outer(Mode::dry);
    const ModeScope inner(Mode::shapes);
    Mode elsewhere = Mode::dry;
    std::thread([&] { elsewhere = current_mode(); }).join();
    CHECK(elsewhere == Mode::run);
    CHECK(current_mode() == Mode::shapes);
    throw BadOrder("out");
  } catch (const BadOrder&) {
  }
  CHECK(current_mode() == Mode::run);
}
