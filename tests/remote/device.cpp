// Memory without permissions, and reference's kernels, which see it at other addresses.
#include "remote/device.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <memory>
#include <typeinfo>
#include <utility>

namespace accrue::test {
namespace {

constexpr size_t reserved = size_t{1} << 32, page = 4096;  // address space; pages come when touched

/// One memory, mapped twice.
class Memory {
 public:
  Memory() {
    const int file = ::memfd_create("remote", 0);
    const bool sized = file >= 0 && ::ftruncate(file, reserved) == 0;
    const auto mapped = [&](int permissions) {
      void* at = ::mmap(nullptr, reserved, permissions, MAP_SHARED | MAP_NORESERVE, file, 0);
      if (!sized || at == MAP_FAILED) throw Failure("[remote] expected 4 GiB of addresses, twice");
      return static_cast<std::byte*>(at);
    };
    outside_ = mapped(PROT_NONE);
    inside_ = mapped(PROT_READ | PROT_WRITE);
    ::close(file);
  }

  void* get(size_t bytes) {
    if (pages(bytes) > reserved - used_) return nullptr;
    return outside_ + std::exchange(used_, used_ + pages(bytes));
  }
  // Addresses are never handed out again, so that what outlives its memory shows too.
  void give_back(void* block, size_t bytes) { ::madvise(inside(block), pages(bytes), MADV_REMOVE); }

  bool contains(const void* data) const { return data >= outside_ && data < outside_ + used_; }
  /// Where kernels and transfers see it.
  template <class T>
  T* inside(T* data) const {
    return data ? reinterpret_cast<T*>(reinterpret_cast<intptr_t>(data) + (inside_ - outside_))
                : data;
  }

  Transfers transfers;

 private:
  static size_t pages(size_t bytes) { return (bytes + page - 1) / page * page; }

  std::byte *outside_, *inside_;
  size_t used_ = 0;
};

Memory& memory() {
  static Memory all;
  return all;
}

Allocator& allocator() {
  static Allocator all({[](size_t bytes) { return memory().get(bytes); },
                        [](void* block, size_t bytes) { memory().give_back(block, bytes); }});
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
  ++memory().transfers.to_host;
  std::memcpy(host, memory().inside(device), bytes);
}
void from_host(void* device, const void* host, size_t bytes) {
  refuse_in_graph();
  ++memory().transfers.from_host;
  std::memcpy(memory().inside(device), host, bytes);
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
    ++memory().transfers.uploads;
    std::memcpy(memory().inside(device), bytes.data(), bytes.size());
  }
};
std::unique_ptr<Upload> upload(void* device, size_t bytes) {
  return std::make_unique<LateUpload>(device, bytes);
}

// ---- the views in a kernel's arguments: each must lie in remote memory

/// Checks a kernel's own views and turns them to where the kernel sees them.
struct Enter {
  const char* kernel;
  template <class View>  // In or Out
  void turn(View& view) const {
    const In in = view;
    if (!in || in.shape.elements() == 0) return;
    require(memory().contains(in.data), "[remote] expected arguments on the device, got ",
            "host memory of shape ", in.shape, " for ", kernel);
    view.data = memory().inside(view.data);
  }
  void operator()(In& in) const { turn(in); }
  void operator()(Out& out) const { turn(out); }
  void operator()(Deposit& one) const { turn(one.into); }
  void operator()(std::optional<Deposit>& one) const {
    if (one) turn(one->into);
  }
  void operator()(RandomKey& key) const {
    require(!key.cycle_at || memory().contains(key.cycle_at),
            "[remote] expected a key's number on the device");
    key.cycle_at = memory().inside(key.cycle_at);
    if (baked_keys) key = key.resolved();
  }
  template <class... Views>
  void all(Views&... views) const {
    ((*this)(views), ...);
  }
};

using namespace kernel;

void enter(const Enter& e, Matmul& k) { e.all(k.a, k.b, k.c, k.bias); }
void enter(const Enter& e, Copy& k) { e.all(k.from, k.to); }
void enter(const Enter& e, SumTo& k) { e.all(k.from, k.to); }
void enter(const Enter& e, Fill& k) { e.all(k.to); }
void enter(const Enter& e, Binary& k) { e.all(k.a, k.b, k.y); }
void enter(const Enter& e, Unary& k) { e.all(k.x, k.y); }
void enter(const Enter& e, UnaryBackward& k) { e.all(k.x, k.dy, k.dx); }
void enter(const Enter& e, MatmulUnary& k) { e.all(k.a, k.b, k.bias, k.z, k.y); }
void enter(const Enter& e, MatmulUnaryBackward& k) { e.all(k.a, k.b, k.z, k.dz, k.y); }
void enter(const Enter& e, Scale& k) { e.all(k.x, k.factor, k.y); }
void enter(const Enter& e, Norm& k) {
  e.all(k.x, k.gamma, k.beta, k.y, k.statistics, k.branch, k.sum);
}
void enter(const Enter& e, NormBackward& k) {
  e.all(k.x, k.gamma, k.statistics, k.dy, k.dx, k.dgamma, k.dbeta);
}
void enter(const Enter& e, Dropout& k) { e.all(k.x, k.samples, k.y); }
void enter(const Enter& e, Attention& k) { e.all(k.q, k.k, k.v, k.y, k.logsum, k.samples); }
void enter(const Enter& e, AttentionBackward& k) {
  e.all(k.q, k.k, k.v, k.y, k.logsum, k.dy, k.dq, k.dk, k.dv, k.samples);
}
void enter(const Enter& e, Rope& k) { e.all(k.x, k.y); }
void enter(const Enter& e, Embedding& k) { e.all(k.table, k.ids, k.y); }
void enter(const Enter& e, EmbeddingBackward& k) { e.all(k.ids, k.dy, k.table); }
void enter(const Enter& e, CrossEntropy& k) { e.all(k.logits, k.targets, k.loss, k.logsum); }
void enter(const Enter& e, CrossEntropyBackward& k) {
  e.all(k.logits, k.targets, k.logsum, k.factor, k.dlogits);
}
void enter(const Enter& e, CountTargets& k) { e.all(k.targets, k.count); }
void enter(const Enter& e, SquaredError& k) { e.all(k.x, k.target, k.loss); }
void enter(const Enter& e, SquaredErrorBackward& k) { e.all(k.x, k.target, k.factor, k.dx); }
void enter(const Enter& e, SgdItem& k) { e.all(k.sum, k.weight, k.velocity, k.copy); }
void enter(const Enter& e, AdamItem& k) { e.all(k.sum, k.weight, k.mean, k.variance, k.copy); }
void enter(const Enter& e, StochasticAdd& k) { e.all(k.x, k.sum); }
void enter(const Enter& e, FixedPointAdd& k) { e.all(k.x, k.total, k.largest); }
template <class Formula>
void enter(const Enter& e, Map<Formula>& k) {
  for (Out& one : k.outs) e(one);
  for (In& one : k.ins) e(one);
}

/// A launch's arguments, with copies of what they refer to on the host.
template <class Args>
struct Own {
  Args args;

  Own(const Args& given, const Enter& e) : args(given) {
    enter(e, args);
    if constexpr (requires { args.key; }) e(args.key);
  }
  const Args& get() const { return args; }
};
template <>
struct Own<Dot> {
  std::vector<In> a, b;
  Out result;

  Own(const Dot& given, const Enter& e)
      : a(given.a.begin(), given.a.end()), b(given.b.begin(), given.b.end()), result(given.result) {
    for (In& one : a) e(one);
    for (In& one : b) e(one);
    e(result);
  }
  Dot get() const { return {a, b, result}; }
};
template <class Args>
requires requires(Args k) { k.items; }
struct Own<Args> {
  Args args;
  std::vector<typename decltype(Args::items)::value_type> items;

  Own(const Args& given, const Enter& e)
      : args(given), items(given.items.begin(), given.items.end()) {
    for (auto& one : items) enter(e, one);
  }
  Args get() const {
    Args all = args;
    all.items = items;
    return all;
  }
};

template <class Args>
void run(const Args& args, void* workspace) {
  const auto kernel = [own = Own<Args>(args, Enter{typeid(Args).name()}),
                       workspace = memory().inside(workspace)] {
    std::get<Kernel<Args>>(Device::reference().backend->kernels).run(own.get(), workspace);
  };
  if (recording)
    recording->push_back(kernel);
  else
    kernel();
}

template <class... Args>
std::tuple<Kernel<Args>...> on_remote(const std::tuple<Kernel<Args>...>& kernels) {
  return {Kernel<Args>{std::get<Kernel<Args>>(kernels).workspace, run<Args>}...};
}

}  // namespace

Device remote() {
  static const GraphCalls graphs{begin_graph, end_graph, replay_graph, free_graph};
  static const Backend backend{
      "remote", &allocator(), is_floating, on_remote(Device::reference().backend->kernels),
      to_host,  from_host,    &graphs,     nullptr,
      upload};
  return {&backend};
}

BakedKeys::BakedKeys() { baked_keys = true; }
BakedKeys::~BakedKeys() { baked_keys = false; }

Transfers transfers() { return memory().transfers; }

}  // namespace accrue::test
