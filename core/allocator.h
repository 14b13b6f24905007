// A caching allocator that knows, to the byte, what each block is for.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string_view>
#include <vector>

namespace accrue {

/// What a block of memory is for.
enum class Tag : uint8_t { parameters, copies, gradients, optimizer, activations, workspace };
constexpr int tag_count = 6;
constexpr std::array<std::string_view, tag_count> tag_names{
    "parameters", "copies", "gradients", "optimizer", "activations", "workspace"};

/// Bytes handed out, now and at most, by tag. `peak_total` is the largest sum at one moment.
struct MemoryUse {
  std::array<int64_t, tag_count> current{}, peak{};
  int64_t total = 0, peak_total = 0;

  void add(Tag tag, int64_t bytes);
  void reset_peak();
};

/// Hands out blocks aligned to 64 bytes and keeps freed ones for reuse. Thread-safe.
/// A dry run asks for virtual blocks: they are counted in a ledger of their own and have no memory.
class Allocator {
 public:
  struct Source {  // where memory comes from: the host, a GPU
    void* (*get)(size_t bytes);
    void (*give_back)(void*, size_t bytes);
    bool cache = true;  // keep freed blocks for reuse
    size_t keep_below =
        0;  // smaller blocks are never given back: the source cuts them from larger ones
  };
  explicit Allocator(Source source);
  Allocator(const Allocator&) = delete;

  /// Throws OutOfMemory, naming the bytes and what is in use, after giving back its cache and
  /// trying once more. Null where `dry`.
  void* allocate(size_t bytes, Tag tag, bool dry);
  void release(void* block, size_t bytes, Tag tag, bool dry) noexcept;

  MemoryUse use(bool dry = false) const;
  void reset_peak(bool dry = false);
  /// Gives all large cached blocks back to where they came from.
  void trim();

 private:
  void trim_locked();

  struct Cached {
    void* block;
    size_t bytes;
  };
  Source source_;
  mutable std::mutex mutex_;
  MemoryUse ledgers_[2];                    // real, dry
  std::vector<std::vector<Cached>> cache_;  // by size class
  size_t cached_bytes_ = 0;                 // in large blocks
};

/// Host memory, shared by the `cpu` and `reference` backends. Where the environment has
/// ACCRUE_NO_CACHE each block is allocated and freed by itself, on a GPU too: for memory checkers.
Allocator& host_allocator();

/// Blocks that this thread allocates while the scope lives get this tag. The default is
/// activations.
class TagScope {
 public:
  explicit TagScope(Tag tag);
  ~TagScope();
  TagScope(const TagScope&) = delete;

 private:
  Tag before_;
};
Tag current_tag();

}  // namespace accrue
