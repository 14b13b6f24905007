#include "profile.h"

#include <cxxabi.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <typeinfo>
#include <vector>

#include "floor.h"

namespace accrue::bench {
namespace {

struct Row {
  std::string name;
  double seconds = 0;
  int64_t calls = 0;
};

std::map<std::string, Row> rows;  // by name
Device timed_inner;               // whose kernels they are

template <class Args>
std::string name_of(const Args&) {
  char* name = abi::__cxa_demangle(typeid(Args).name(), nullptr, nullptr, nullptr);
  std::string result = name;
  std::free(name);
  return result.substr(result.rfind(':') + 1);
}

// Products are told apart by their sizes and layouts.
std::string name_of_product(const char* kernel, const In& a, const In& b) {
  return text(kernel, " ", a.shape[0], " x ", b.shape[1], " x ", a.shape[1], " ",
              a.strides[1] == 1 ? 'N' : 'T', b.strides[1] == 1 ? 'N' : 'T');
}
std::string name_of(const kernel::Matmul& args) {
  return name_of_product("Matmul", args.a, args.b);
}
std::string name_of(const kernel::MatmulUnary& args) {
  return name_of_product("MatmulUnary", args.a, args.b);
}
std::string name_of(const kernel::MatmulUnaryBackward& args) {
  return name_of_product("MatmulUnaryBackward", args.a, args.b);
}

template <class Args>
struct Timed {
  static inline void (*inner)(const Args&, void*) = nullptr;
  static void run(const Args& args, void* workspace) {
    wait(timed_inner);
    const double start = now();
    inner(args, workspace);
    wait(timed_inner);
    const double seconds = now() - start;
    Row& row = rows[name_of(args)];
    row.seconds += seconds;
    ++row.calls;
  }
};

template <class F>
void for_each_kernel(Kernels& kernels, const F& f) {
  std::apply([&](auto&... kernel) { (f(kernel), ...); }, kernels);
}

Backend& backend() {
  static Backend timed = [] {
    Backend b = *timed_inner.backend;
    for_each_kernel(b.kernels, []<class Args>(Kernel<Args>& kernel) {
      Timed<Args>::inner = kernel.run;
      kernel.run = Timed<Args>::run;
    });
    return b;
  }();
  return timed;
}

}  // namespace

Device timed_device(Device inner) {
  timed_inner = inner;
  return {&backend()};
}

void reset_profile() { rows.clear(); }

void print_profile(double total_seconds) {
  std::vector<Row> sorted;
  for (auto& [name, row] : rows) sorted.push_back({name, row.seconds, row.calls});
  std::ranges::sort(sorted, [](const Row& a, const Row& b) { return a.seconds > b.seconds; });
  double kernels = 0;
  for (const Row& row : sorted) {
    kernels += row.seconds;
    std::fprintf(stderr, "  %-38s %7ld calls %10.3f ms %8.2f us a call %5.1f %%\n",
                 row.name.c_str(), static_cast<long>(row.calls), row.seconds * 1e3,
                 row.seconds * 1e6 / static_cast<double>(row.calls),
                 100 * row.seconds / total_seconds);
  }
  std::fprintf(stderr, "  %-38s %24.3f ms %27.1f %%\n", "engine and everything else",
               (total_seconds - kernels) * 1e3, 100 * (total_seconds - kernels) / total_seconds);
}

}  // namespace accrue::bench
