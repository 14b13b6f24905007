// Linked into every program: OpenMP's waiting threads sleep after some 50 µs instead of spinning.
// On a machine that runs anything else, spinning makes a training step many times slower
// (docs/performance.md).
#include <unistd.h>

namespace {

// Runs before sanitizers and libc are ready: no instrumentation, no library calls but execve.
#define EARLY __attribute__((no_sanitize("address", "undefined")))

EARLY bool names(const char* entry, const char* variable) {
  while (*variable && *entry == *variable) ++entry, ++variable;
  return !*variable && *entry == '=';
}

// libgomp reads its environment when it is loaded, before main and before any constructor of ours,
// and libc takes the environment from the kernel. So the program starts itself again, once, with
// one more variable; whoever sets it, or OMP_WAIT_POLICY, decides for himself.
EARLY void shorten_spin(int, char** argv, char** environment) {
  constexpr int most = 4096;
  static char* extended[most + 2];
  static char ours[] = "GOMP_SPINCOUNT=20000";
  int count = 0;
  for (; environment[count]; ++count) {
    if (count == most || names(environment[count], "GOMP_SPINCOUNT") ||
        names(environment[count], "OMP_WAIT_POLICY"))
      return;
    extended[count] = environment[count];
  }
  extended[count] = ours;
  execve("/proc/self/exe", argv, extended);  // on failure the program just goes on
}

__attribute__((section(".preinit_array"),
               used)) void (*const before_libraries)(int, char**, char**) = shorten_spin;

}  // namespace
