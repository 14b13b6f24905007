// A line on stderr that shows how far a program is: a bar, words, the time left.
#pragma once
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>

namespace accrue::examples {

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Silent where stderr is no terminal.
class ProgressLine {
 public:
  /// `from`: the part that was done before, in [0, 1].
  explicit ProgressLine(double from = 0) : from_(from) {}
  ~ProgressLine() { clear(); }
  ProgressLine(const ProgressLine&) = delete;

  /// `part` is done; words() says of what. Drawn ten times a second at most, however often it is
  /// called: a terminal is slow.
  template <class Words>
  void show(double part, Words&& words) {
    constexpr double interval = 0.1;
    const double now = terminal_ ? seconds_now() : 0;
    if (!terminal_ || now - last_ < interval) return;
    last_ = now;
    draw(part, words());
  }
  /// Before anything else is printed.
  void clear() {
    if (shown_) std::fprintf(stderr, "\r\033[K");
    shown_ = false;
  }

 private:
  void draw(double part, const std::string& words) {
    constexpr int width = 24;
    shown_ = true;
    std::string bar(width, '.');
    std::fill_n(bar.begin(), static_cast<int>(std::clamp(part, 0.0, 1.0) * width), '#');
    std::fprintf(stderr, "\r\033[K[%s] %s", bar.c_str(), words.c_str());
    if (part <= from_) return;
    const auto left = static_cast<int>((last_ - began_) * (1 - part) / (part - from_));
    std::fprintf(stderr, "  %d:%02d left", left / 60, left % 60);
  }

  double from_, began_ = seconds_now(), last_ = began_;
  bool terminal_ = isatty(STDERR_FILENO) == 1, shown_ = false;
};

}  // namespace accrue::examples
