// The library's header compiled in: what it vectorises for is decided by this build.
#include "accrue/core/xxh3.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace accrue {

struct Xxh3::State {
  XXH3_state_t of;  // aligned to 64 bytes by its type
};

Xxh3::Xxh3() : state_(std::make_unique<State>()) { XXH3_128bits_reset(&state_->of); }
Xxh3::~Xxh3() = default;

Xxh3& Xxh3::add(std::span<const std::byte> bytes) {
  XXH3_128bits_update(&state_->of, bytes.data(), bytes.size());
  return *this;
}

std::string Xxh3::hex() const {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state_->of));
  constexpr char digits[] = "0123456789abcdef";
  std::string result;
  for (const unsigned char byte : canonical.digest) {
    result += digits[byte >> 4];
    result += digits[byte & 15];
  }
  return result;
}

}  // namespace accrue
