// What tests ask about the message of an error.
#pragma once
#include <string>
#include <string_view>

namespace accrue::test {

/// The message of what `call` throws, which must be an E.
template <class E, class F>
std::string message_of(const F& call) {
  try {
    call();
  } catch (const E& error) {
    return error.what();
  }
  return "nothing was thrown";
}

/// Whether `whole` contains `part`, for messages.
inline bool contains(const std::string& whole, std::string_view part) {
  return whole.find(part) != std::string::npos;
}

}  // namespace accrue::test
