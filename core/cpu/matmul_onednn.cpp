// Matrix products by oneDNN's matmul primitive: which layouts serve it best, and the cache.
#include <omp.h>

#include <algorithm>
#include <cstring>
#include <dnnl.hpp>
#include <map>
#include <mutex>
#include <span>
#include <vector>

#include "accrue/core/cpu/matmul_parts.h"

namespace accrue::cpu {
namespace {

using dnnl::memory;

/// What of a product a primitive depends on.
struct Key {
  int64_t M, N, K;
  MatrixLayout a, b, c;
  bool add;
  DType in, out, bias;
  bool has_bias;
  bool kept;  // b is packed once per cycle, in the weight's Packs
  int threads = omp_get_max_threads();

  auto operator<=>(const Key&) const = default;
};

const dnnl::engine& engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

memory::data_type type_of(DType dtype) {
  return dtype == DType::bf16 ? memory::data_type::bf16 : memory::data_type::f32;
}

memory::desc describe(int64_t rows, int64_t columns, DType dtype, const MatrixLayout& layout) {
  const auto strides = layout.transposed ? memory::dims{1, layout.ld} : memory::dims{layout.ld, 1};
  return {{rows, columns}, type_of(dtype), strides};
}

/// A kept layout's name: one for equal ones, whichever thread asks, and by its top bit no other
/// route's. Never forgotten, as a weight's Packs may hold it; there are few shapes of weights.
uint64_t name_of(const memory::desc& layout, bool transposed) {
  static std::mutex mutex;
  static std::vector<memory::desc> known;
  const std::lock_guard lock(mutex);
  const auto found = std::ranges::find(known, layout);
  const uint64_t number = found - known.begin();
  if (found == known.end()) known.push_back(layout);
  return uint64_t(1) << 63 | number << 1 | transposed;
}

size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

class Primitive {
 public:
  explicit Primitive(const Key& key) : key_(key) { make(); }
  bool exists() const { return static_cast<bool>(matmul_); }
  size_t workspace(const Product& p) const {
    if (key_.kept) entry(p);
    return scratch_bytes_;
  }
  void run(const Product& p, void* workspace);

 private:
  void make();
  Packs::Entry& entry(const Product& p) const {
    return p.args.b.packs->entry(layout_, b_bytes_, Device::cpu());
  }
  const void* packed(const Product& p, void* workspace);

  Key key_;
  dnnl::matmul matmul_;
  dnnl::reorder pack_;  // of a kept b
  memory plain_, pack_scratch_;
  uint64_t layout_ = 0;  // of b, among the weight's Packs
  size_t scratch_bytes_ = 0, b_bytes_ = 0;
  memory a_, b_, c_, bias_, scratch_;
};

void Primitive::make() {
  const Key& k = key_;
  const auto a = describe(k.M, k.K, k.in, k.a);
  const auto b = k.kept ? memory::desc({k.K, k.N}, type_of(k.in), memory::format_tag::any)
                        : describe(k.K, k.N, k.in, k.b);
  const auto c = describe(k.M, k.N, k.out, k.c);
  const auto bias = k.has_bias ? describe(1, k.N, k.bias, {k.N}) : memory::desc();
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (k.add) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
  // An empty primitive (`allow_empty`) where oneDNN has none for this CPU.
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::matmul::primitive_desc made(engine(), a, b, bias, c, attributes, true);
#else
  const dnnl::matmul::primitive_desc made({a, b, bias, c}, attributes, engine(), true);
#endif
  // Its reference implementation is slower than the routes that remain, its gemm than sgemm.
  const bool blocked = made && std::strncmp(made.impl_info_str(), "brg", 3) == 0;
  const bool gemm = made && std::strncmp(made.impl_info_str(), "gemm", 4) == 0;
  if (!blocked && !(gemm && !k.kept && k.in == DType::bf16)) return;
  if (k.kept) {
    b_bytes_ = aligned(made.weights_desc().get_size());
    layout_ = name_of(made.weights_desc(), k.b.transposed);
    const auto plain = describe(k.K, k.N, k.in, k.b);
    dnnl::primitive_attr own;
    own.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::reorder::primitive_desc pack(engine(), plain, engine(), made.weights_desc(), own,
                                             true);
    if (!pack) return;
    plain_ = memory(plain, engine(), nullptr);
    pack_scratch_ = memory(pack.scratchpad_desc(), engine(), nullptr);
    scratch_bytes_ = aligned(pack.scratchpad_desc().get_size());
    pack_ = dnnl::reorder(pack);
  }
  scratch_bytes_ = std::max(scratch_bytes_, aligned(made.scratchpad_desc().get_size()));
  a_ = memory(made.src_desc(), engine(), nullptr);
  b_ = memory(made.weights_desc(), engine(), nullptr);
  c_ = memory(made.dst_desc(), engine(), nullptr);
  if (k.has_bias) bias_ = memory(made.bias_desc(), engine(), nullptr);
  scratch_ = memory(made.scratchpad_desc(), engine(), nullptr);
  matmul_ = dnnl::matmul(made);
}

/// The memory, now at `data`.
dnnl_memory_t at(memory& memory, const void* data) {
  check_dnnl(dnnl_memory_set_data_handle(memory.get(), const_cast<void*>(data)),
             "dnnl_memory_set_data_handle");
  return memory.get();
}

void execute(const dnnl::primitive& primitive, std::span<const dnnl_exec_arg_t> arguments) {
  static thread_local dnnl::stream stream(engine());
  check_dnnl(
      dnnl_primitive_execute(primitive.get(), stream.get(), arguments.size(), arguments.data()),
      "dnnl_primitive_execute");
}

const void* Primitive::packed(const Product& p, void* workspace) {
  if (!key_.kept) return p.args.b.data;
  Packs::Entry& kept = entry(p);
  void* place = kept.data.data<uint8_t>();
  if (kept.valid) return place;
  const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, at(plain_, p.args.b.data)},
                                       {DNNL_ARG_TO, at(b_, place)},
                                       {DNNL_ARG_SCRATCHPAD, at(pack_scratch_, workspace)}};
  execute(pack_, arguments);
  kept.valid = true;
  return place;
}

void Primitive::run(const Product& p, void* workspace) {
  const void* b = packed(p, workspace);
  const dnnl_exec_arg_t arguments[] = {
      {DNNL_ARG_SRC, at(a_, p.args.a.data)},
      {DNNL_ARG_WEIGHTS, at(b_, b)},
      {DNNL_ARG_DST, at(c_, p.args.c.data)},
      {DNNL_ARG_SCRATCHPAD, at(scratch_, workspace)},
      {DNNL_ARG_BIAS, key_.has_bias ? at(bias_, p.args.bias.data) : nullptr}};
  execute(matmul_, std::span(arguments, key_.has_bias ? 5 : 4));
}

namespace {

/// The primitive with these layouts of b; null if oneDNN has none.
Primitive* find(const Product& p, bool kept) {
  // One cache per thread: the primitives hold the addresses of the call.
  static thread_local std::map<Key, Primitive> cache;
  const auto& [a, b, c, write, bias] = p.args;
  const Key key{p.M,     p.N,     p.K,     p.a,        p.b,        p.c,
                p.add(), a.dtype, c.dtype, bias.dtype, bool(bias), kept};
  auto found = cache.find(key);
  if (found == cache.end()) {
    constexpr size_t bound = 4096;  // ragged shapes without end must not fill the memory
    if (cache.size() >= bound) cache.clear();
    try {
      found = cache.try_emplace(key, key).first;
    } catch (const dnnl::error& error) {
      check_dnnl(error.status, "dnnl::matmul::primitive_desc");
    }
  }
  return found->second.exists() ? &found->second : nullptr;
}

}  // namespace

Primitive* find_primitive(const Product& p) {
  if (p.M == 0 || p.N == 0 || p.K == 0) return nullptr;
  const In& bias = p.args.bias;
  if (bias && (bias.dtype == DType::f16 || (bias.strides[0] != 1 && p.N > 1))) return nullptr;
  if (p.plain(DType::f32, DType::f32)) {
    // sgemm packs b at each call, which counts where few rows share it. A layout of a weight beyond
    // the second-level cache gains nothing over sgemm's, and costs as much memory as the weight.
    constexpr int64_t few_rows = 128, small_weight = 1 << 19;
    const bool kept = p.args.b.packs && p.M > 1 && p.M <= few_rows && p.K * p.N <= small_weight;
    return kept ? find(p, true) : nullptr;
  }
  // oneDNN 2.6 has no f16 on a CPU.
  if (!p.plain(DType::bf16, DType::bf16) && !p.plain(DType::bf16, DType::f32)) return nullptr;
  // The head of a large vocabulary is read from memory either way.
  constexpr int64_t largest_kept = 1 << 24;
  const bool kept = p.args.b.packs && p.K * p.N <= largest_kept;
  Primitive* primitive = kept ? find(p, true) : nullptr;
  return primitive ? primitive : find(p, false);
}

size_t primitive_workspace(const Primitive& primitive, const Product& p) {
  return primitive.workspace(p);
}

void run_primitive(Primitive& primitive, const Product& p, void* workspace) {
  primitive.run(p, workspace);
}

}  // namespace accrue::cpu
