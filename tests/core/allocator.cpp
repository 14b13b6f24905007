// The allocator: its counts are exact, its blocks come back, and running out harms nothing.
#include "accrue/core/allocator.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <thread>

#include "accrue/core/kernels.h"
#include "core/temporary.h"

using namespace accrue;
using testing::contains;
using testing::message_of;

namespace {

// A source with a limit; plain functions, because that is what a source is.
int64_t held = 0, most_held = 0, calls = 0;

void* get(size_t bytes) {
  ++calls;
  if (held + static_cast<int64_t>(bytes) > most_held) return nullptr;
  held += static_cast<int64_t>(bytes);
  return std::aligned_alloc(64, bytes);
}
void give_back(void* block, size_t bytes) {
  held -= static_cast<int64_t>(bytes);
  std::free(block);
}

struct Limited : Allocator {
  explicit Limited(int64_t limit) : Allocator({get, give_back}) {
    held = calls = 0;
    most_held = limit;
  }
  ~Limited() { trim(); }
};

int64_t current(const Allocator& memory, Tag tag, bool dry = false) {
  return memory.use(dry).current[static_cast<int>(tag)];
}
int64_t peak(const Allocator& memory, Tag tag, bool dry = false) {
  return memory.use(dry).peak[static_cast<int>(tag)];
}

}  // namespace

TEST_CASE("current and peak bytes are exact, by tag and in sum") {
  Limited memory(1 << 20);
  void* a = memory.allocate(1000, Tag::gradients, false);
  void* b = memory.allocate(77, Tag::gradients, false);
  void* c = memory.allocate(5, Tag::workspace, false);
  CHECK(current(memory, Tag::gradients) == 1077);
  CHECK(current(memory, Tag::workspace) == 5);
  CHECK(memory.use().total == 1082);
  memory.release(a, 1000, Tag::gradients, false);
  void* d = memory.allocate(500, Tag::workspace, false);
  CHECK(current(memory, Tag::gradients) == 77);
  CHECK(peak(memory, Tag::gradients) == 1077);
  CHECK(peak(memory, Tag::workspace) == 505);
  CHECK(memory.use().total == 582);
  CHECK(memory.use().peak_total == 1082);  // less than the sum of the tags' peaks: never at once
  memory.reset_peak();
  CHECK(peak(memory, Tag::gradients) == 77);
  CHECK(memory.use().peak_total == 582);
  memory.release(b, 77, Tag::gradients, false);
  memory.release(c, 5, Tag::workspace, false);
  memory.release(d, 500, Tag::workspace, false);
  CHECK(memory.use().total == 0);
  for (int64_t bytes : memory.use().current) CHECK(bytes == 0);
}

TEST_CASE("freed blocks are used again, for sizes close to theirs as well") {
  Limited memory(1 << 20);
  void* a = memory.allocate(2048, Tag::activations, false);
  memory.release(a, 2048, Tag::activations, false);
  CHECK(memory.allocate(2048, Tag::gradients, false) == a);
  memory.release(a, 2048, Tag::gradients, false);
  CHECK(memory.allocate(2040, Tag::gradients, false) == a);
  CHECK(calls == 1);
  memory.release(a, 2040, Tag::gradients, false);
  memory.trim();
  CHECK(held == 0);
}

TEST_CASE("blocks are aligned to 64 bytes") {
  for (size_t bytes : {1, 63, 65, 1000, 12345, 5 << 20}) {
    void* block = host_allocator().allocate(bytes, Tag::workspace, false);
    CHECK(reinterpret_cast<uintptr_t>(block) % 64 == 0);
    host_allocator().release(block, bytes, Tag::workspace, false);
  }
}

TEST_CASE("the dry ledger counts alone and asks for no memory") {
  Limited memory(1 << 20);
  CHECK(memory.allocate(size_t{1} << 50, Tag::activations, true) == nullptr);
  CHECK(calls == 0);
  CHECK(peak(memory, Tag::activations, true) == int64_t{1} << 50);
  CHECK(memory.use().peak_total == 0);
  memory.release(nullptr, size_t{1} << 50, Tag::activations, true);
  CHECK(memory.use(true).total == 0);
}

TEST_CASE("out of memory names the bytes and leaves all counts as they were") {
  Limited memory(4096);
  void* a = memory.allocate(3072, Tag::parameters, false);
  const std::string reason =
      message_of<OutOfMemory>([&] { memory.allocate(2048, Tag::gradients, false); });
  CHECK(contains(reason, "2048 bytes for gradients"));
  CHECK(contains(reason, "3072 bytes are in use"));
  CHECK(memory.use().total == 3072);
  CHECK(memory.use().peak_total == 3072);
  CHECK(peak(memory, Tag::gradients) == 0);
  memory.release(a, 3072, Tag::parameters, false);
  CHECK(memory.use().total == 0);
}

TEST_CASE("before it runs out it gives its cache back and tries once more") {
  Limited memory(4096);
  memory.release(memory.allocate(3072, Tag::parameters, false), 3072, Tag::parameters, false);
  CHECK(held == 3072);  // cached
  void* a = memory.allocate(4096, Tag::parameters, false);
  CHECK(a != nullptr);
  CHECK(held == 4096);
  memory.release(a, 4096, Tag::parameters, false);
}

TEST_CASE("a tensor that finds no memory leaves the ledger right") {
  Limited memory(4096);
  const Backend backend{"limited", &memory, is_floating, {}};
  const Tensor held_one({100}, DType::f64, Device{&backend});
  CHECK_THROWS_AS(Tensor({1000}, DType::f64, Device{&backend}), OutOfMemory);
  CHECK(memory.use().total == 800);
  CHECK(memory.use().peak_total == 800);
}

TEST_CASE("tensors count under the tag of their scope until the last handle is gone") {
  const auto gradients = [] { return current(host_allocator(), Tag::gradients); };
  const int64_t before = gradients();
  {
    Tensor view;
    {
      const TagScope outer(Tag::optimizer);
      const TagScope inner(Tag::gradients);
      const Tensor tensor({10, 3}, DType::f32, Device::reference());
      view = tensor.slice(0, 1);
    }
    CHECK(current_tag() == Tag::activations);
    CHECK(gradients() == before + 120);
  }
  CHECK(gradients() == before);
}

TEST_CASE("threads that allocate at once lose no byte") {
  Limited memory(1 << 30);
  const auto work = [&](Tag tag) {
    for (size_t i = 1; i <= 2000; ++i) {
      void* block = memory.allocate(i, tag, false);
      memory.release(block, i, tag, false);
    }
  };
  std::thread first(work, Tag::gradients), second(work, Tag::workspace);
  first.join();
  second.join();
  CHECK(memory.use().total == 0);
  CHECK(peak(memory, Tag::gradients) == 2000);
  CHECK(peak(memory, Tag::workspace) == 2000);
}

TEST_CASE("a pool's blocks serve its own allocations alone, and anybody's once it is gone") {
  Limited memory(1 << 20);
  const auto any = [&] { return memory.allocate(4096, Tag::activations, false); };
  const auto free = [&](void* block) { memory.release(block, 4096, Tag::activations, false); };
  void *a = any(), *b = any();
  free(a), free(b);
  auto pool = std::make_unique<Allocator::Pool>(memory);
  {
    const PoolScope scope(*pool);
    CHECK(any() == b);
    free(b);
    CHECK(any() == b);  // its own again, though a is free too
  }
  free(b);  // outside of the scope as well
  void* c = any();
  CHECK(c == a);
  void* d = any();
  CHECK(d != b);
  CHECK(calls == 3);
  pool.reset();
  CHECK(any() == b);
  CHECK(memory.use().total == 3 * 4096);
  for (void* one : {b, c, d}) free(one);
}

TEST_CASE("a pool asks for no memory and gives none back while it lives") {
  Limited memory(1 << 20);
  const auto any = [&] { return memory.allocate(4096, Tag::activations, false); };
  void* a = any();
  memory.release(a, 4096, Tag::activations, false);
  Allocator::Pool pool(memory);
  const PoolScope scope(pool);
  CHECK(any() == a);
  CHECK(contains(message_of<Failure>(any), "free block"));
  CHECK(memory.use().total == 4096);  // the one that it has
  memory.release(a, 4096, Tag::activations, false);
  memory.trim();
  CHECK(held > 0);
  CHECK(any() == a);
  memory.release(a, 4096, Tag::activations, false);
}
