// A block of GPU threads on the host: the kernels' bodies run on it as they run on the device.
//
// Threads are fibers that change only where they wait for each other, in the order that is asked
// for, so that a missing barrier shows as a result that depends on the order. Copies to shared
// memory happen as late as they may. Instructions of a warp are what the PTX manual says of them.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "accrue/core/dtype.h"
#include "accrue/cuda/attention_layout.h"

namespace accrue::test {

/// Lets `size` fibers pass together.
struct Barrier {
  int size = 0, arrived = 0;
  long passed = 0;
};

class HostBlock;

class HostLanes {
 public:
  using Words = std::array<uint32_t, 12>;  // what a lane gives the others

  HostLanes(HostBlock& block, int thread, int64_t index)
      : block_(block), thread_(thread), index_(index) {}
  HostLanes(const HostLanes&) = delete;

  int thread() const { return thread_; }
  int64_t block() const { return index_; }
  void sync() const;

  template <class T>
  T shuffle_xor(T value, int bits) const {
    Words words{};
    std::memcpy(words.data(), &value, sizeof value);
    T other;
    std::memcpy(&other, exchange(words)[lane() ^ bits].data(), sizeof other);
    return other;
  }
  void load_matrices(uint32_t (&words)[4], const void* row) const {
    load(words, row, [](const uint16_t*(&rows)[8], int lane, int i) {
      return rows[lane / 4][lane % 4 * 2 + i];
    });
  }
  void load_transposed(uint32_t (&words)[4], const void* row) const {
    load(words, row, [](const uint16_t*(&rows)[8], int lane, int i) {
      return rows[lane % 4 * 2 + i][lane / 4];
    });
  }
  template <class T>
  void multiply(float (&sum)[4], const uint32_t (&left)[4], uint32_t right_0,
                uint32_t right_1) const;

  void copy_16(void* shared, const void* from, bool valid) const { copy(shared, from, valid, 16); }
  void copy_4(void* shared, const void* from, bool valid) const { copy(shared, from, valid, 4); }
  void wait_for_copies() const {
    for (const Copy& c : copies_)
      c.from ? std::memcpy(c.to, c.from, c.bytes) : std::memset(c.to, 0, c.bytes);
    copies_.clear();
  }

  float exp2(float x) const { return std::exp2(x); }
  template <class Wide>
  Wide exp(Wide x) const {
    return std::exp(x);
  }
  template <class Wide>
  Wide log(Wide x) const {
    return std::log(x);
  }
  template <class T>
  uint32_t pack(float low, float high) const {
    return T(low).bits | static_cast<uint32_t>(T(high).bits) << 16;
  }
  template <class Wide, class T>
  Wide widen(T x) const {
    return static_cast<Wide>(x);
  }
  template <class T, class Wide>
  T narrow(Wide x) const {
    return static_cast<T>(x);
  }

 private:
  struct Copy {
    void* to;
    const void* from;  // null: zeros
    size_t bytes;
  };
  int lane() const { return thread_ % cuda::warp_size; }
  /// The words of all lanes of the warp, once all are there.
  const std::array<Words, cuda::warp_size>& exchange(const Words& words) const;

  void copy(void* shared, const void* from, bool valid, size_t bytes) const {
    if (reinterpret_cast<uintptr_t>(shared) % bytes || reinterpret_cast<uintptr_t>(from) % bytes)
      throw std::logic_error("a copy to shared memory is not aligned");
    copies_.push_back({shared, valid ? from : nullptr, bytes});
  }
  template <class Pick>
  void load(uint32_t (&words)[4], const void* row, const Pick& pick) const {
    Words mine{};
    if (reinterpret_cast<uintptr_t>(row) % 16) throw std::logic_error("a row is not aligned");
    std::memcpy(mine.data(), &row, sizeof row);
    const auto& all = exchange(mine);
    for (int m = 0; m < 4; ++m) {
      const uint16_t* rows[8];
      for (int i = 0; i < 8; ++i) std::memcpy(&rows[i], all[m * 8 + i].data(), sizeof rows[i]);
      words[m] = pick(rows, lane(), 0) | static_cast<uint32_t>(pick(rows, lane(), 1)) << 16;
    }
  }

  HostBlock& block_;
  int thread_;
  int64_t index_;
  mutable std::vector<Copy> copies_;
  mutable int parity_ = 0;
};

class HostBlock {
 public:
  /// Runs body(lanes) in each thread of each block. `backwards`: the last thread first.
  static void run(int64_t blocks, int threads, bool backwards,
                  const std::function<void(const HostLanes&)>& body) {
    for (int64_t i = 0; i < blocks; ++i) HostBlock(i, threads, body).run_all(backwards);
  }

 private:
  friend class HostLanes;
  struct Fiber {
    ucontext_t start;
    jmp_buf place;
    bool started = false;
    std::unique_ptr<HostLanes> lanes;
    const Barrier* waits = nullptr;
    long passed = 0;
    bool done = false;
  };
  struct Warp {
    Barrier barrier{cuda::warp_size};
    std::array<HostLanes::Words, cuda::warp_size> words[2];
  };

  HostBlock(int64_t index, int threads, const std::function<void(const HostLanes&)>& body)
      : body_(body), all_{threads}, warps_(threads / cuda::warp_size), fibers_(threads) {
    for (int i = 0; i < threads; ++i) {
      Fiber& fiber = fibers_[i];
      fiber.lanes = std::make_unique<HostLanes>(*this, i, index);
      getcontext(&fiber.start);
      fiber.start.uc_stack.ss_sp = stack_of(i);
      fiber.start.uc_stack.ss_size = stack_bytes;
      fiber.start.uc_link = nullptr;
      const auto address = reinterpret_cast<uintptr_t>(this);
      makecontext(&fiber.start, reinterpret_cast<void (*)()>(&enter), 3,
                  static_cast<unsigned>(address), static_cast<unsigned>(address >> 32), i);
    }
  }

  static constexpr size_t stack_bytes = 256 * 1024;  // touched only as far as it is used
  static char* stack_of(int thread) {
    static std::vector<std::unique_ptr<char[]>> stacks;
    while (static_cast<int>(stacks.size()) <= thread)
      stacks.push_back(std::make_unique_for_overwrite<char[]>(stack_bytes));
    return stacks[thread].get();
  }

  /// To a fiber, until it waits or is done. Contexts only begin one: swapping them asks the kernel.
  void resume(Fiber& fiber) {
    if (_setjmp(main_) != 0) return;
    if (fiber.started) _longjmp(fiber.place, 1);
    fiber.started = true;
    setcontext(&fiber.start);
  }
  void leave(Fiber& fiber) {
    if (_setjmp(fiber.place) == 0) _longjmp(main_, 1);
  }

  static void enter(unsigned low, unsigned high, int thread) {
    auto* block = reinterpret_cast<HostBlock*>(uintptr_t{high} << 32 | low);
    Fiber& fiber = block->fibers_[thread];
    try {
      block->body_(*fiber.lanes);
    } catch (...) {
      block->error_ = std::current_exception();
    }
    fiber.done = true;
    block->leave(fiber);
  }

  void run_all(bool backwards) {
    const int count = static_cast<int>(fibers_.size());
    for (int left = count; left > 0;) {
      bool moved = false;
      for (int i = 0; i < count; ++i) {
        current_ = backwards ? count - 1 - i : i;
        Fiber& fiber = fibers_[current_];
        if (fiber.done || (fiber.waits && fiber.waits->passed == fiber.passed)) continue;
        moved = true;
        resume(fiber);
        if (error_) std::rethrow_exception(error_);
        left -= fiber.done;
      }
      if (!moved) throw std::logic_error("the threads of a block wait for each other for ever");
    }
  }

  void wait(Barrier& barrier) {
    if (++barrier.arrived == barrier.size) {
      barrier.arrived = 0;
      ++barrier.passed;
      return;
    }
    Fiber& fiber = fibers_[current_];
    fiber.waits = &barrier;
    fiber.passed = barrier.passed;
    leave(fiber);
    fiber.waits = nullptr;
  }

  const std::function<void(const HostLanes&)>& body_;
  Barrier all_;
  std::vector<Warp> warps_;
  std::vector<Fiber> fibers_;
  jmp_buf main_;
  int current_ = 0;
  std::exception_ptr error_;
};

inline void HostLanes::sync() const { block_.wait(block_.all_); }

inline const std::array<HostLanes::Words, cuda::warp_size>& HostLanes::exchange(
    const Words& words) const {
  auto& warp = block_.warps_[thread_ / cuda::warp_size];
  auto& all = warp.words[parity_];
  parity_ = 1 - parity_;  // nobody is two exchanges ahead
  all[lane()] = words;
  block_.wait(warp.barrier);
  return all;
}

template <class T>
void HostLanes::multiply(float (&sum)[4], const uint32_t (&left)[4], uint32_t right_0,
                         uint32_t right_1) const {
  // The numbers of a lane's words: left 0 … 7, right 8 … 11.
  const uint32_t packed[] = {left[0], left[1], left[2], left[3], right_0, right_1};
  Words mine;
  for (int i = 0; i < 12; ++i) {
    T number;
    number.bits = static_cast<uint16_t>(packed[i / 2] >> i % 2 * 16);
    mine[i] = std::bit_cast<uint32_t>(static_cast<float>(number));
  }
  const auto& all = exchange(mine);
  // The manual's figures for m16n8k16.
  for (int i = 0; i < 4; ++i) {
    const int row = lane() / 4 + (i >= 2 ? 8 : 0), column = lane() % 4 * 2 + i % 2;
    float products = 0;
    for (int term = 0; term < 16; ++term) {
      const int in_group = term % 8 / 2, half = term % 2;
      const int word = (row >= 8 ? 1 : 0) + (term >= 8 ? 2 : 0);
      products += std::bit_cast<float>(all[row % 8 * 4 + in_group][2 * word + half]) *
                  std::bit_cast<float>(all[column * 4 + in_group][8 + term / 8 * 2 + half]);
    }
    sum[i] += products;
  }
}

}  // namespace accrue::test
