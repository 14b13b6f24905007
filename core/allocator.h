// A caching allocator that knows, to the byte, what each block is for.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace accrue {

/// What a block is for. copies: weights in bf16, f16 or packed, a checkpoint's image.
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
  struct Cached {
    void* block;
    size_t bytes;
  };
  using Cache = std::vector<std::vector<Cached>>;  // by size class
  static constexpr size_t size_classes = size_t{65} * 17;

 public:
  /// Blocks that kernels of graphs know by address: what this thread allocates within a PoolScope
  /// is taken from the cache, and when it is freed it serves this pool's later allocations alone,
  /// until the pool dies.
  class Pool {
   public:
    explicit Pool(Allocator& allocator) : allocator_(allocator), cache_(size_classes) {}
    ~Pool();
    Pool(const Pool&) = delete;

   private:
    friend class Allocator;
    Allocator& allocator_;
    Cache cache_;
  };

 private:
  void trim_locked();
  void* take_for(Pool& pool, size_t index);
  void keep_locked(void* block, size_t bytes) noexcept;

  Source source_;
  mutable std::mutex mutex_;
  MemoryUse ledgers_[2];  // real, dry
  Cache cache_;
  size_t cached_bytes_ = 0;                   // in large blocks
  int64_t high_water_ = 0;                    // the real peak; reset_peak() leaves it
  std::unordered_map<void*, Pool*> pool_of_;  // of blocks that belong to one
};

/// Allocations of this thread are the pool's while the scope lives. Where the cache has no block
/// that fits they throw Failure: a device cannot be asked for memory while a graph is made.
class PoolScope {
 public:
  explicit PoolScope(Allocator::Pool& pool);
  ~PoolScope();
  PoolScope(const PoolScope&) = delete;

 private:
  Allocator::Pool* before_;
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
