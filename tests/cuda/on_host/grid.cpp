// Checked jumps refuse to go to another stack.
#undef _FORTIFY_SOURCE
#include "cuda/on_host/grid.h"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "accrue/core/error.h"

namespace on_host {

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace {

constexpr uint32_t most_threads = 1024, warp = 32;
constexpr size_t stack_bytes = size_t{1} << 18;

/// A place to come back to. Jumps cost no call of the system; under the address sanitizer, which
/// does not follow them from stack to stack, contexts are swapped.
struct Place {
  ucontext_t context;
  jmp_buf jump;
};

void go(Place& from, Place& to) {
#if defined(__SANITIZE_ADDRESS__)
  swapcontext(&from.context, &to.context);
#else
  if (_setjmp(from.jump) == 0) _longjmp(to.jump, 1);
#endif
}

/// A thread of the block. It lives on from block to block: its stack is made once.
struct Fiber {
  enum class State { ready, at_barrier, at_shuffle, ended };

  std::unique_ptr<char[]> stack;
  Place here;
  State state = State::ended;
  dim3 index;
  uint64_t word = 0;  // what it gives in a shuffle, then what it got
  int bits = 0;
};

using State = Fiber::State;

std::vector<Fiber> fibers(most_threads);
uint32_t count = 0;  // threads of the block that runs
Fiber* running = nullptr;
const std::function<void()>* body = nullptr;
std::vector<void*> poisoned;  // of the block's shared arrays
Place scheduler;

void wait_as(State state) {
  running->state = state;
  go(running->here, scheduler);
}

void run_bodies() {
  for (;;) {
    (*body)();
    wait_as(State::ended);
  }
}

void resume(Fiber& fiber) {
  running = &fiber;
  threadIdx = fiber.index;
  if (fiber.stack) return go(scheduler, fiber.here);
  fiber.stack = std::make_unique_for_overwrite<char[]>(stack_bytes);
  ucontext_t& first = fiber.here.context;
  getcontext(&first);
  first.uc_stack.ss_sp = fiber.stack.get();
  first.uc_stack.ss_size = stack_bytes;
  makecontext(&first, run_bodies, 0);
  if (_setjmp(scheduler.jump) == 0) swapcontext(&scheduler.context, &first);
}

/// Whether all of [first, last) that have not ended wait for this, and one does.
bool all_wait(uint32_t first, uint32_t last, State state) {
  bool any = false;
  for (uint32_t i = first; i < last; ++i) {
    if (fibers[i].state == State::ended) continue;
    if (fibers[i].state != state) return false;
    any = true;
  }
  return any;
}

/// The block is given up in its middle: what its threads' stacks hold is of no use any more.
[[noreturn]] void refuse(const char* why) {
  for (Fiber& fiber : fibers) fiber.stack.reset();
  throw accrue::Failure(why);
}

void shuffle(uint32_t first, uint32_t last) {
  uint64_t words[warp];
  for (uint32_t i = first; i < last; ++i) {
    if (fibers[i].state == State::ended || last - first < warp)
      refuse("[shuffle] expected all lanes of the warp, got one that has ended");
    if (fibers[i].bits != fibers[first].bits)
      refuse("[shuffle] expected the same bits in all lanes, got others");
    words[i - first] = fibers[first + ((i - first) ^ static_cast<uint32_t>(fibers[i].bits))].word;
  }
  for (uint32_t i = first; i < last; ++i)
    fibers[i].word = words[i - first], fibers[i].state = State::ready;
}

/// Lets those go on who wait for nobody any more. False: all have ended.
bool release() {
  bool any = false, alive = false;
  for (uint32_t first = 0; first < count; first += warp) {
    const uint32_t last = std::min(first + warp, count);
    if (!all_wait(first, last, State::at_shuffle)) continue;
    shuffle(first, last);
    any = true;
  }
  if (!any && all_wait(0, count, State::at_barrier)) {
    for (uint32_t i = 0; i < count; ++i)
      if (fibers[i].state == State::at_barrier) fibers[i].state = State::ready;
    any = true;
  }
  for (uint32_t i = 0; i < count; ++i) alive = alive || fibers[i].state != State::ended;
  if (alive && !any) refuse("[launch] expected all threads at one barrier, got some elsewhere");
  return alive;
}

void run_block(const std::vector<uint32_t>& order) {
  poisoned.clear();
  for (uint32_t i = 0; i < count; ++i) {
    Fiber& fiber = fibers[i];
    fiber.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    fiber.state = State::ready;
  }
  do {
    for (const uint32_t i : order)
      if (fibers[i].state == State::ready) resume(fibers[i]);
  } while (release());
}

}  // namespace

void shared(void* array, size_t bytes) {
  if (std::ranges::find(poisoned, array) != poisoned.end()) return;
  std::memset(array, 0xff, bytes);
  poisoned.push_back(array);
}

void sync() { wait_as(State::at_barrier); }

uint64_t exchange(uint64_t word, int bits) {
  Fiber& self = *running;
  self.word = word;
  self.bits = bits;
  wait_as(State::at_shuffle);
  return self.word;
}

void launch(dim3 grid, dim3 block, const std::function<void()>& thread) {
  const uint64_t wanted = uint64_t{block.x} * block.y * block.z;
  count = static_cast<uint32_t>(std::min<uint64_t>(wanted, most_threads + 1));
  const bool fits = count >= 1 && count <= most_threads && block.z <= 64 && grid.x >= 1 &&
                    grid.x < (1u << 31) && grid.y >= 1 && grid.y <= 65535 && grid.z >= 1 &&
                    grid.z <= 65535;
  if (!fits)
    throw accrue::Failure(accrue::text("[launch] expected a grid that a device takes, got ", grid.x,
                                       " × ", grid.y, " × ", grid.z, " blocks of ", wanted));
  static std::minstd_rand random;
  std::vector<uint32_t> order(count);
  for (uint32_t i = 0; i < count; ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), random);
  body = &thread;
  blockDim = block, gridDim = grid;
  for (uint32_t z = 0; z < grid.z; ++z)
    for (uint32_t y = 0; y < grid.y; ++y)
      for (uint32_t x = 0; x < grid.x; ++x) {
        blockIdx = {x, y, z};
        run_block(order);
      }
}

}  // namespace on_host
