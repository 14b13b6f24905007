// Linked into every program: OpenMP's waiting threads sleep after some 50 µs instead of spinning.
// On a machine that runs anything else, spinning makes a training step twenty times slower.
#include <cstdlib>

namespace {

void shorten_spin() { setenv("GOMP_SPINCOUNT", "20000", 0); }

// libgomp reads its environment when it is loaded, before main and before any constructor of ours.
__attribute__((section(".preinit_array"), used)) void (*const before_libraries)() = shorten_spin;

}  // namespace
