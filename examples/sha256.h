// SHA-256: one number that changes when any byte does.
// Source: FIPS PUB 180-4, Secure Hash Standard.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace accrue::examples {

/// The digest of all bytes added so far, however they were cut into calls.
class Sha256 {
 public:
  Sha256& add(std::span<const std::byte> bytes);
  /// 64 lower-case hexadecimal digits. More bytes may be added afterwards.
  std::string hex() const;

 private:
  static constexpr size_t block_size = 64;

  std::array<uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, block_size> rest_{};  // bytes that do not fill a block yet
  uint64_t size_ = 0;
};

std::string sha256(std::span<const std::byte> bytes);

}  // namespace accrue::examples
