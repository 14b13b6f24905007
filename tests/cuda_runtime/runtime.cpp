// The device's side of bad input, and its memory and transfers, on a fake of CUDA's runtime. Built,
// as are the files of cuda/ that it tests, with another name for the namespace accrue::cuda.
#include "accrue/cuda/runtime.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <numeric>
#include <thread>
#include <vector>

#include "accrue/core/error.h"
#include "accrue/cuda/graph.h"
#include "accrue/cuda/upload.h"
#include "cuda_runtime/machine.h"

namespace accrue::test::fake {
namespace {

/// Bytes that differ from place to place, for all segments of pinned memory, 32 MiB, and some
/// again.
const std::vector<uint64_t>& numbers() {
  static const auto all = [] {
    std::vector<uint64_t> result((34 * MiB + 24) / sizeof(uint64_t));
    std::iota(result.begin(), result.end(), uint64_t{1});
    return result;
  }();
  return all;
}

/// The source line that an error's "… at FILE:LINE" names.
std::string blamed(const std::string& message, const std::string& file) {
  const std::string place = " at " + file + ":";
  const size_t at = message.find(place);
  REQUIRE_MESSAGE(at != std::string::npos, message);
  std::ifstream source(ACCRUE_SOURCE_DIR "/cuda/" + file);
  std::string line;
  for (int i = std::stoi(message.substr(at + place.size())); i > 0; --i) std::getline(source, line);
  return line;
}

}  // namespace

TEST_CASE_FIXTURE(Machine, "a device that cannot be used: each reason says what to do about it") {
  const auto& says = refusals();
  CHECK(says.at("no driver") ==
        "[device] expected NVIDIA's driver, got none; install it, or try Device::cpu()");
  CHECK(says.at("old driver") ==
        "[device] expected a driver for CUDA 13.0, got one for CUDA 12.4; update the driver, or "
        "build with an older CUDA Toolkit, or try Device::cpu()");
  CHECK(says.at("no device") ==
        "[device] expected a GPU, got none; see nvidia-smi and the environment's "
        "CUDA_VISIBLE_DEVICES, or try Device::cpu()");
  CHECK(says.at("other architecture") ==
        "[device] expected code for Fake GPU of compute capability 7.5, got a build without it; "
        "configure with -DCMAKE_CUDA_ARCHITECTURES=75, or try Device::cpu()");
  // PTX that the driver cannot compile is no code for the device either.
  for (const char* machine : {"newer PTX", "no JIT"})
    CHECK_MESSAGE(contains(says.at(machine),
                           "capability 12.1, got a build without it; configure "
                           "with -DCMAKE_CUDA_ARCHITECTURES=121,"),
                  says.at(machine));
}

TEST_CASE_FIXTURE(
    Machine, "other errors while the device is set up name the call and ask for no checkpoint") {
  for (const auto& [machine, part] : std::map<std::string, std::string>{
           {"not ready",
            "[device] expected cudaGetDeviceCount(&count) to succeed, got cudaErrorSystemNotReady "
            "(802: system not yet initialized) at runtime.cpp:"},
           {"busy", "got cudaErrorDevicesUnavailable (46: device(s) is/are busy) at runtime.cpp:"},
           {"full", "got cudaErrorMemoryAllocation (2: out of memory) at runtime.cpp:"},
           {"nearly full", "expected cudaStreamCreateWithFlags("}}) {
    const std::string& says = refusals().at(machine);
    CHECK_MESSAGE(contains(says, part), says);
    CHECK_MESSAGE(contains(says, "; see nvidia-smi, or try Device::cpu()"), says);
    CHECK_MESSAGE(!contains(says, "checkpoint"), says);
    CHECK(contains(blamed(says, "runtime.cpp"),
                   machine == "nearly full" ? "CHECK_SETUP(" : "check_setup("));
  }
}

TEST_CASE_FIXTURE(Machine, "a refused device is asked again, and has_device() never throws") {
  for (const auto& one : refusals())
    CHECK_MESSAGE(!contains(one.second, "has_device()"), one.first);
  CHECK(has_device());
  CHECK(properties().ordinal == 3);
}

TEST_CASE_FIXTURE(Machine, "every thread is bound to the device, once") {
  const int before = gpu.calls["cudaSetDevice"];
  std::thread([] { stream(), stream(); }).join();
  stream();
  CHECK(gpu.calls["cudaSetDevice"] == before + 1);
}

TEST_CASE_FIXTURE(Machine,
                  "cached blocks are given back before the device's memory counts as full") {
  gpu.memory = gpu.used + 64 * MiB;
  { const Block cached(40 * MiB); }
  const bool caches = !std::getenv("ACCRUE_NO_CACHE");
  CHECK((gpu.memory - gpu.used < 48 * MiB) == caches);
  const int asked = gpu.calls["cudaMalloc"];
  const Block other(48 * MiB);
  CHECK(gpu.calls["cudaMalloc"] == asked + (caches ? 2 : 1));
  CHECK(gpu.memory - gpu.used == 16 * MiB);
  CHECK(gpu.last == cudaSuccess);  // or the next launch would be blamed
}

TEST_CASE_FIXTURE(Machine, "out of memory: the bytes asked for, what is in use, and what to try") {
  gpu.memory = gpu.used + 64 * MiB;
  const Block block(48 * MiB);
  const int64_t used = allocator().use().total;
  const auto ask = [](size_t bytes) {
    return message_of<OutOfMemory>([&] { allocator().allocate(bytes, Tag::gradients, false); });
  };
  const auto expected = [&](size_t bytes) {
    return text("[allocate] expected ", bytes, " bytes for gradients, got none; ", used,
                " bytes are in use; try a smaller micro-batch or recomputation");
  };
  CHECK(used >= static_cast<int64_t>(48 * MiB));
  CHECK(ask(20 * MiB + 1) == expected(20 * MiB + 1));
  CHECK(gpu.last == cudaSuccess);
  CHECK(allocator().use().total == used);  // nothing was counted that is not there
  const Block rest(16 * MiB);              // and what there is can still be had
  CHECK(gpu.used == gpu.memory);
}

TEST_CASE_FIXTURE(Machine, "a failed call is reported once: text, code, file, line, what to do") {
  const auto fails = [](const char* call, const auto& use) {
    gpu.failing = call, gpu.with = cudaErrorIllegalAddress;
    const std::string message = message_of<Failure>(use);
    CHECK_MESSAGE(contains(message, text("[cuda] expected ", call, "(")), message);
    CHECK_MESSAGE(
        contains(message, "to succeed, got cudaErrorIllegalAddress (700: illegal memory access)"),
        message);
    CHECK_MESSAGE(contains(message, "go on from the last checkpoint"), message);
    CHECK(cudaGetLastError() == cudaSuccess);
    return message;
  };
  CHECK(contains(blamed(fails("cudaStreamSynchronize", synchronize), "runtime.cpp"),
                 "cudaStreamSynchronize(stream())"));
  CHECK(
      contains(blamed(fails("cudaMalloc", [] { Block(300 * MiB); }), "runtime.cpp"), "cudaMalloc"));
  char byte = 0;
  const Block block(2 * MiB);
  CHECK(contains(
      blamed(fails("cudaMemcpyAsync", [&] { from_host(block.data, &byte, 1); }), "staging.cpp"),
      "cudaMemcpyAsync"));
  CHECK(contains(
      blamed(fails("cudaHostAlloc", [&] { make_upload(block.data, 64 * MiB); }), "upload.cpp"),
      "cudaHostAlloc"));
  graph_calls.begin();
  CHECK(contains(blamed(fails("cudaStreamEndCapture", [] { graph_calls.end(true); }), "graph.cpp"),
                 "cudaStreamEndCapture"));
}

TEST_CASE_FIXTURE(Machine, "a device that fails in mid-cycle: every later call says so") {
  char byte = 0;
  const Block block(2 * MiB);
  gpu.lost = cudaErrorIllegalAddress;
  for (const std::string& message :
       {message_of<Failure>([&] { from_host(block.data, &byte, 1); }),
        message_of<Failure>([&] { to_host(&byte, block.data, 1); }),
        message_of<Failure>([] { Block(300 * MiB); }), message_of<Failure>(synchronize)})
    CHECK_MESSAGE(contains(message, "got cudaErrorIllegalAddress"), message);
}

TEST_CASE_FIXTURE(Machine, "errors of freed memory are not left to the next launch") {
  gpu.failing = "cudaFree", gpu.with = cudaErrorIllegalAddress;
  { const Block freed(40 * MiB); }
  allocator().trim();
  CHECK(gpu.failing.empty());
  CHECK(gpu.last == cudaSuccess);
}

TEST_CASE_FIXTURE(Machine,
                  "copies to the device: its pace and the ring's wrap-around cannot be seen") {
  const size_t bytes = numbers().size() * sizeof(uint64_t), first = MiB + 24;
  const char* host = reinterpret_cast<const char*>(numbers().data());
  const Block block(bytes);
  for (const bool eager : {false, true}) {
    CAPTURE(eager);
    gpu.eager = eager;
    std::memset(block.data, 0, bytes);
    std::vector<char> changed(host, host + first);
    from_host(block.data, changed.data(), first);
    CHECK((pending() > 0) == !eager);  // nobody waits while there is room
    std::ranges::fill(changed, 'x');   // the host's bytes may be changed by now
    from_host(block.data + first, host + first, bytes - first);
    CHECK((pending() > 7) == !eager);  // only the oldest of eight segments was waited for
    synchronize();
    CHECK(std::memcmp(block.data, host, bytes) == 0);
  }
}

TEST_CASE_FIXTURE(Machine, "copies to the host are there on return, whatever the device's pace") {
  const size_t bytes = numbers().size() * sizeof(uint64_t);
  const Block block(bytes);
  std::memcpy(block.data, numbers().data(), bytes);
  std::vector<uint64_t> got(numbers().size());
  for (const bool eager : {false, true}) {
    CAPTURE(eager);
    gpu.eager = eager;
    to_host(got.data(), block.data, bytes);
    CHECK(std::memcmp(got.data(), numbers().data(), bytes) == 0);
    std::memset(got.data(), 0, bytes);
  }
}

TEST_CASE_FIXTURE(Machine, "an upload's pinned memory is used again only after its copy") {
  const Block one(2 * MiB), two(2 * MiB);
  void* pinned = nullptr;
  {
    const std::unique_ptr<Upload> upload = make_upload(one.data, one.bytes);
    std::memset(pinned = upload->host(), 'a', one.bytes);
    upload->start();
    CHECK(pending() > 0);
    upload->finish();
  }
  const std::unique_ptr<Upload> upload = make_upload(two.data, two.bytes);
  REQUIRE(upload->host() == pinned);
  std::memset(upload->host(), 'b', two.bytes);
  upload->start();
  upload->finish();
  synchronize();
  CHECK(one.data[0] == 'a');
  CHECK(one.data[one.bytes - 1] == 'a');
  CHECK(two.data[0] == 'b');
  CHECK(two.data[two.bytes - 1] == 'b');
}

TEST_CASE_FIXTURE(Machine,
                  "an upload runs after what uses its memory, and before what comes after it") {
  const Block block(2 * MiB);
  std::memset(block.data, 'o', block.bytes);
  char before = 0, after = 0;
  const auto read = [&](char& to) {
    cudaMemcpyAsync(&to, block.data, 1, cudaMemcpyDeviceToHost, stream());
  };
  read(before);
  const std::unique_ptr<Upload> upload = make_upload(block.data, block.bytes);
  std::memset(upload->host(), 'n', block.bytes);
  std::thread([&] { upload->start(); }).join();  // as a loader does
  SUBCASE("the upload's stream runs first") { finish_all(); }
  SUBCASE("the kernels' stream runs first") {}
  upload->finish();
  read(after);
  synchronize();
  CHECK(before == 'o');
  CHECK(after == 'n');
}

TEST_CASE_FIXTURE(Machine, "while a graph is made, what it cannot hold is refused by name") {
  char byte = 0;
  const Block block(2 * MiB);
  graph_calls.begin();
  const std::string refused[] = {message_of<Failure>([&] { to_host(&byte, block.data, 1); }),
                                 message_of<Failure>([&] { from_host(block.data, &byte, 1); }),
                                 message_of<Failure>(synchronize),
                                 message_of<Failure>([&] { make_upload(block.data, 1); })};
  CHECK_THROWS_AS(graph_calls.begin(), BadOrder);
  CHECK(graph_calls.end(false) == nullptr);
  const char* names[] = {"copy to the host", "copy from the host", "wait for the device", "upload"};
  for (int i = 0; i < 4; ++i)
    CHECK(refused[i] == text("[graphs] expected no ", names[i], " while a graph is made, got one"));
  CHECK_NOTHROW(synchronize());
}

}  // namespace accrue::test::fake
