// Errors: what went wrong, in which operation, and what to do next.
// A message reads "[operation] expected …, got …", and "; try …" where that does not say it. The
// library never prints and never exits.
#pragma once
#include <sstream>
#include <stdexcept>
#include <string>

namespace accrue {

/// A value that can never work: a shape, a dtype, a flag.
struct BadArgument : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};
/// A call that is legal, but not now: closing a cycle that never began.
struct BadOrder : std::logic_error {
  using std::logic_error::logic_error;
};
/// The device has no room left. Nothing has been written by the call that threw it.
struct OutOfMemory : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// Something outside the program failed: a file, a library call. Names the call and its code.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Joins anything printable into one string.
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream stream;
  (stream << ... << parts);
  return stream.str();
}

/// Throws BadArgument with the joined parts unless `good`. The message is built only when it is
/// needed.
template <class... Parts>
inline void require(bool good, const Parts&... parts) {
  if (!good) [[unlikely]]
    throw BadArgument(text(parts...));
}

/// Throws BadOrder with the joined parts unless `good`.
template <class... Parts>
inline void require_order(bool good, const Parts&... parts) {
  if (!good) [[unlikely]]
    throw BadOrder(text(parts...));
}

}  // namespace accrue
