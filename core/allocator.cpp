#include "accrue/core/allocator.h"

#include <algorithm>
#include <bit>
#include <cstdlib>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "accrue/core/error.h"

namespace accrue {
namespace {

constexpr size_t huge_page = size_t{2} << 20;

// Sizes close to each other share cached blocks: eight classes per power of two, at least 64 bytes
// apart.
struct SizeClass {
  size_t index, bytes;
};
SizeClass class_of(size_t bytes) {
  const size_t log = std::bit_width(std::max<size_t>(bytes, 64) - 1);
  const size_t step = std::max<size_t>(64, size_t{1} << (log - 4));
  const size_t steps = (bytes + step - 1) / step;
  return {log * 17 + steps, steps * step};
}

void* get_block(size_t bytes) {
  const size_t alignment = bytes >= huge_page ? huge_page : 64;
  void* block = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
#ifdef __linux__
  // Fewer page table walks in large matrices; a refusal costs nothing.
  if (block && alignment == huge_page) madvise(block, bytes, MADV_HUGEPAGE);
#endif
  return block;
}

// Small blocks are cut from huge pages: what a small model touches fits into few of them. Called
// under the allocator's lock.
void* get_or_cut(size_t bytes) {
  static char* arena = nullptr;
  static size_t left = 0;
  if (bytes >= huge_page) return get_block(bytes);
  if (left < bytes) {
    constexpr size_t arena_bytes = 16 * huge_page;
    arena = static_cast<char*>(get_block(arena_bytes));
    left = arena ? arena_bytes : 0;
    if (!arena) return nullptr;
  }
  arena += bytes;
  left -= bytes;
  return arena - bytes;
}

void give_back_block(void* block, size_t) { std::free(block); }

thread_local Tag tag_now = Tag::activations;
thread_local Allocator::Pool* pool_now = nullptr;

}  // namespace

void MemoryUse::add(Tag tag, int64_t bytes) {
  int64_t& now = current[static_cast<int>(tag)];
  int64_t& most = peak[static_cast<int>(tag)];
  now += bytes;
  total += bytes;
  most = std::max(most, now);
  peak_total = std::max(peak_total, total);
}

void MemoryUse::reset_peak() {
  peak = current;
  peak_total = total;
}

Allocator::Allocator(Source source) : source_(source), cache_(size_classes) {}

void* Allocator::allocate(size_t bytes, Tag tag, bool dry) {
  const std::lock_guard lock(mutex_);
  void* block = nullptr;
  if (!dry && bytes > 0) {
    const auto [index, size] = class_of(bytes);
    auto& cached = cache_[index];
    if (pool_now && &pool_now->allocator_ == this) {
      block = take_for(*pool_now, index);
    } else if (!cached.empty()) {
      block = cached.back().block;
      cached.pop_back();
      if (size >= source_.keep_below) cached_bytes_ -= size;
    } else {
      block = source_.get(size);
      if (!block) {
        trim_locked();
        block = source_.get(size);
      }
      if (!block)
        throw OutOfMemory(text("[allocate] expected ", bytes, " bytes for ",
                               tag_names[static_cast<int>(tag)], ", got none; ", ledgers_[0].total,
                               " bytes are in use; try a smaller micro-batch or recomputation"));
    }
  }
  ledgers_[dry].add(tag, static_cast<int64_t>(bytes));
  if (!dry) high_water_ = std::max(high_water_, ledgers_[0].total);
  return block;
}

void Allocator::release(void* block, size_t bytes, Tag tag, bool dry) noexcept {
  const std::lock_guard lock(mutex_);
  ledgers_[dry].add(tag, -static_cast<int64_t>(bytes));
  if (block) keep_locked(block, class_of(bytes).bytes);
}

void Allocator::keep_locked(void* block, size_t size) noexcept {
  const auto owner = pool_of_.empty() ? pool_of_.end() : pool_of_.find(block);
  const bool pooled = owner != pool_of_.end(), counted = !pooled && size >= source_.keep_below;
  // Micro-batches of changing sizes must not let the cache outgrow what the program needs at its
  // peak. Pushing to the cache can fail for lack of memory; then the block is given back as well,
  // or serves nobody any more, if graphs may still write to it.
  const auto limit = static_cast<size_t>(high_water_);
  if (!pooled && (!source_.cache || (counted && cached_bytes_ + size > limit)))
    return source_.give_back(block, size);
  try {
    (pooled ? owner->second->cache_ : cache_)[class_of(size).index].push_back({block, size});
    if (counted) cached_bytes_ += size;
  } catch (...) {
    if (counted) source_.give_back(block, size);
  }
}

void* Allocator::take_for(Pool& pool, size_t index) {
  auto &own = pool.cache_[index], &cached = cache_[index];
  if (own.empty()) {
    if (cached.empty())
      throw Failure(
          "[graphs] expected a free block for each allocation within a graph, got too "
          "few; they come with micro-batches that run without one");
    const Cached one = cached.back();
    pool_of_.emplace(one.block, &pool);
    own.push_back(one);
    cached.pop_back();
    if (one.bytes >= source_.keep_below) cached_bytes_ -= one.bytes;
  }
  void* block = own.back().block;
  own.pop_back();
  return block;
}

Allocator::Pool::~Pool() {
  const std::lock_guard lock(allocator_.mutex_);
  std::erase_if(allocator_.pool_of_, [this](const auto& one) { return one.second == this; });
  for (const auto& cached : cache_)
    for (const Cached& one : cached) allocator_.keep_locked(one.block, one.bytes);
}

MemoryUse Allocator::use(bool dry) const {
  const std::lock_guard lock(mutex_);
  return ledgers_[dry];
}

void Allocator::reset_peak(bool dry) {
  const std::lock_guard lock(mutex_);
  ledgers_[dry].reset_peak();
}

void Allocator::trim() {
  const std::lock_guard lock(mutex_);
  trim_locked();
}

void Allocator::trim_locked() {
  for (auto& cached : cache_) {
    if (cached.empty() || cached.front().bytes < source_.keep_below) continue;
    for (const Cached& one : cached) source_.give_back(one.block, one.bytes);
    cached.clear();
  }
  cached_bytes_ = 0;
}

Allocator& host_allocator() {
  // Never destroyed: tensors with static lifetime may outlive any order of destruction.
  static Allocator* allocator = std::getenv("ACCRUE_NO_CACHE")
                                    ? new Allocator({get_block, give_back_block, false})
                                    : new Allocator({get_or_cut, give_back_block, true, huge_page});
  return *allocator;
}

TagScope::TagScope(Tag tag) : before_(tag_now) { tag_now = tag; }
TagScope::~TagScope() { tag_now = before_; }
PoolScope::PoolScope(Allocator::Pool& pool) : before_(pool_now) { pool_now = &pool; }
PoolScope::~PoolScope() { pool_now = before_; }
Tag current_tag() { return tag_now; }

}  // namespace accrue
