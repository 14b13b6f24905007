// XXH3-128: a checksum at the speed of memory. It finds damage; it does not resist forgery.
// Source: Y. Collet, xxHash specification (XXH3), https://github.com/Cyan4973/xxHash.
#pragma once
#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace accrue {

/// The checksum of all bytes added so far, however they were cut into calls.
class Xxh3 {
 public:
  Xxh3();
  ~Xxh3();

  Xxh3& add(std::span<const std::byte> bytes);
  /// 32 lower-case hexadecimal digits, the canonical form. More bytes may be added afterwards.
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace accrue
