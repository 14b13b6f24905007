// Memory without permissions, and reference's kernels behind a gate that opens it.
#include "remote/device.h"

#include <sys/mman.h>

#include <cstring>
#include <functional>
#include <memory>
#include <typeinfo>

namespace accrue::test {
namespace {

constexpr size_t reserved = size_t{1} << 32, page = 4096;  // address space; pages come when touched

struct Memory {
  std::byte* base = static_cast<std::byte*>(
      ::mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  size_t used = 0;
  int gates = 0;
  Transfers transfers;

  bool contains(const void* data) const { return data >= base && data < base + used; }
};

Memory& memory() {
  static Memory all;
  return all;
}

/// Open while it lives.
class Gate {
 public:
  Gate() {
    if (memory().gates++ == 0) protect(PROT_READ | PROT_WRITE);
  }
  ~Gate() {
    if (--memory().gates == 0) protect(PROT_NONE);
  }
  Gate(const Gate&) = delete;

 private:
  static void protect(int permissions) {
    if (memory().used > 0) ::mprotect(memory().base, memory().used, permissions);
  }
};

void* get(size_t bytes) {
  Memory& all = memory();
  const size_t size = (bytes + page - 1) / page * page;
  if (size > reserved - all.used) return nullptr;
  void* block = all.base + all.used;
  all.used += size;
  return block;
}

// Addresses are never handed out again, so that what outlives its memory shows too.
void give_back(void* block, size_t bytes) {
  ::madvise(block, (bytes + page - 1) / page * page, MADV_DONTNEED);
}

Allocator& allocator() {
  static Allocator all({get, give_back});
  return all;
}

// ---- graphs: what is launched meanwhile is kept, arguments and all

using Recorded = std::vector<std::function<void()>>;
std::unique_ptr<Recorded> recording;
bool baked_keys = false;

void begin_graph() {
  require_order(!recording, "[remote] expected one graph at a time");
  recording = std::make_unique<Recorded>();
}
void* end_graph(bool keep) {
  const std::unique_ptr<Recorded> made = std::move(recording);
  return keep ? new Recorded(std::move(*made)) : nullptr;
}
void replay_graph(void* graph) {
  for (const auto& kernel : *static_cast<Recorded*>(graph)) kernel();
}
void free_graph(void* graph) { delete static_cast<Recorded*>(graph); }

void refuse_in_graph() {
  if (recording) throw Failure("[remote] expected no transfer within a graph, got one");
}

void to_host(void* host, const void* device, size_t bytes) {
  refuse_in_graph();
  const Gate open;
  ++memory().transfers.to_host;
  std::memcpy(host, device, bytes);
}
void from_host(void* device, const void* host, size_t bytes) {
  refuse_in_graph();
  const Gate open;
  ++memory().transfers.from_host;
  std::memcpy(device, host, bytes);
}

/// The bytes arrive as late as they may: whoever does not finish() finds others.
struct LateUpload final : Upload {
  void* device;
  std::vector<std::byte> bytes;
  bool started = false;

  LateUpload(void* to, size_t size) : device(to), bytes(size) {}
  void* host() override { return bytes.data(); }
  void start() override { started = true; }
  void finish() override {
    require_order(started, "[remote] expected start() before finish()");
    const Gate open;
    ++memory().transfers.uploads;
    std::memcpy(device, bytes.data(), bytes.size());
  }
};
std::unique_ptr<Upload> upload(void* device, size_t bytes) {
  return std::make_unique<LateUpload>(device, bytes);
}

// ---- the views in a kernel's arguments: each must lie in remote memory

struct Check {
  const char* kernel;
  void operator()(const In& in) const {
    require(!in || in.shape.elements() == 0 || memory().contains(in.data), "[remote] expected ",
            "arguments on the device, got host memory of shape ", in.shape, " for ", kernel);
  }
  void operator()(const Deposit& one) const { (*this)(one.into); }
  void operator()(const std::optional<Deposit>& one) const {
    if (one) (*this)(one->into);
  }
  void operator()(std::span<const In> all) const {
    for (const In& one : all) (*this)(one);
  }
  template <class... Views>
  void all(const Views&... views) const {
    ((*this)(views), ...);
  }
};

using namespace kernel;

void check(const Check& c, const Matmul& k) { c.all(k.a, k.b, k.c, k.bias); }
void check(const Check& c, const Copy& k) { c.all(k.from, k.to); }
void check(const Check& c, const SumTo& k) { c.all(k.from, k.to); }
void check(const Check& c, const Fill& k) { c.all(k.to); }
void check(const Check& c, const Binary& k) { c.all(k.a, k.b, k.y); }
void check(const Check& c, const Unary& k) { c.all(k.x, k.y); }
void check(const Check& c, const UnaryBackward& k) { c.all(k.x, k.dy, k.dx); }
void check(const Check& c, const MatmulUnary& k) { c.all(k.a, k.b, k.bias, k.z, k.y); }
void check(const Check& c, const MatmulUnaryBackward& k) { c.all(k.a, k.b, k.z, k.dz, k.y); }
void check(const Check& c, const Scale& k) { c.all(k.x, k.factor, k.y); }
void check(const Check& c, const Norm& k) { c.all(k.x, k.gamma, k.beta, k.y, k.statistics); }
void check(const Check& c, const NormBackward& k) {
  c.all(k.x, k.gamma, k.statistics, k.dy, k.dx, k.dgamma, k.dbeta);
}
void check(const Check& c, const Dropout& k) { c.all(k.x, k.samples, k.y); }
void check(const Check& c, const Attention& k) { c.all(k.q, k.k, k.v, k.y, k.logsum, k.samples); }
void check(const Check& c, const AttentionBackward& k) {
  c.all(k.q, k.k, k.v, k.y, k.logsum, k.dy, k.dq, k.dk, k.dv, k.samples);
}
void check(const Check& c, const Rope& k) { c.all(k.x, k.y); }
void check(const Check& c, const Embedding& k) { c.all(k.table, k.ids, k.y); }
void check(const Check& c, const EmbeddingBackward& k) { c.all(k.ids, k.dy, k.table); }
void check(const Check& c, const CrossEntropy& k) { c.all(k.logits, k.targets, k.loss, k.logsum); }
void check(const Check& c, const CrossEntropyBackward& k) {
  c.all(k.logits, k.targets, k.logsum, k.factor, k.dlogits);
}
void check(const Check& c, const CountTargets& k) { c.all(k.targets, k.count); }
void check(const Check& c, const SquaredError& k) { c.all(k.x, k.target, k.loss); }
void check(const Check& c, const SquaredErrorBackward& k) { c.all(k.x, k.target, k.factor, k.dx); }
void check(const Check& c, const Dot& k) { c.all(k.a, k.b, k.result); }
void check(const Check& c, const Sgd& k) {
  for (const SgdItem& one : k.items) c.all(one.sum, one.weight, one.velocity, one.copy);
}
void check(const Check& c, const Adam& k) {
  for (const AdamItem& one : k.items) c.all(one.sum, one.weight, one.mean, one.variance, one.copy);
}
template <class Formula>
void check(const Check& c, const Map<Formula>& k) {
  for (const Out& one : k.outs) c(one);
  for (const In& one : k.ins) c(one);
}
void check(const Check& c, const StochasticAdd& k) { c.all(k.x, k.sum); }
void check(const Check& c, const FixedPointAdd& k) { c.all(k.x, k.total, k.largest); }

template <class Args>
void run_now(const Args& args, void* workspace) {
  const Gate open;
  std::get<Kernel<Args>>(Device::reference().backend->kernels).run(args, workspace);
}

/// With copies of what the arguments refer to on the host.
template <class Args>
std::function<void()> kept(const Args& args, void* workspace) {
  return [=] { run_now(args, workspace); };
}
template <>
std::function<void()> kept(const Dot& args, void* workspace) {
  const std::vector<In> a(args.a.begin(), args.a.end()), b(args.b.begin(), args.b.end());
  return [=, result = args.result] { run_now(Dot{a, b, result}, workspace); };
}
template <class Args, class Item>
std::function<void()> kept_items(Args args, std::span<const Item> items, void* workspace) {
  return [=, own = std::vector<Item>(items.begin(), items.end())]() mutable {
    args.items = own;
    run_now(args, workspace);
  };
}
template <>
std::function<void()> kept(const Sgd& args, void* workspace) {
  return kept_items(args, args.items, workspace);
}
template <>
std::function<void()> kept(const Adam& args, void* workspace) {
  return kept_items(args, args.items, workspace);
}

template <class Args>
void run(const Args& args, void* workspace) {
  check(Check{typeid(Args).name()}, args);
  Args now = args;
  if constexpr (requires { now.key; }) {
    const void* place = now.key.cycle_at;
    require(!place || memory().contains(place), "[remote] expected a key's number on the device");
    const Gate open;
    if (baked_keys) now.key = now.key.resolved();
  }
  if (recording)
    recording->push_back(kept(now, workspace));
  else
    run_now(now, workspace);
}

template <class... Args>
std::tuple<Kernel<Args>...> gated(const std::tuple<Kernel<Args>...>& kernels) {
  return {Kernel<Args>{std::get<Kernel<Args>>(kernels).workspace, run<Args>}...};
}

}  // namespace

Device remote() {
  static const GraphCalls graphs{begin_graph, end_graph, replay_graph, free_graph};
  static const Backend backend{
      "remote", &allocator(), is_floating, gated(Device::reference().backend->kernels),
      to_host,  from_host,    &graphs,     nullptr,
      upload};
  return {&backend};
}

BakedKeys::BakedKeys() { baked_keys = true; }
BakedKeys::~BakedKeys() { baked_keys = false; }

Transfers transfers() { return memory().transfers; }

}  // namespace accrue::test
