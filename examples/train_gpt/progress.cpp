#include "progress.h"

#include <unistd.h>

#include <cstdio>

#include "accrue/core/error.h"
#include "accrue/core/file.h"

namespace accrue::examples {

ProgressLine::ProgressLine(int64_t first_step, int64_t steps)
    : first_(first_step),
      steps_(steps),
      terminal_(isatty(STDERR_FILENO) == 1),
      began_(seconds_now()) {}

void ProgressLine::show(int64_t step, double loss, double tokens_per_second) {
  constexpr int width = 24;
  constexpr double interval = 0.1;  // seconds: a terminal is slower than a step
  const double now = seconds_now();
  if (!terminal_ || (step < steps_ && now - last_ < interval)) return;
  last_ = now;
  shown_ = true;
  std::string bar(width, '.');
  bar.replace(0, static_cast<size_t>(width * step / steps_),
              static_cast<size_t>(width * step / steps_), '#');
  const double left =
      (now - began_) / static_cast<double>(step - first_) * static_cast<double>(steps_ - step);
  std::fprintf(stderr, "\r\033[K[%s] %lld/%lld  loss %.4f  %.0f tokens/s  %d:%02d left",
               bar.c_str(), static_cast<long long>(step), static_cast<long long>(steps_), loss,
               tokens_per_second, static_cast<int>(left) / 60, static_cast<int>(left) % 60);
}

void ProgressLine::clear() {
  if (shown_) std::fprintf(stderr, "\r\033[K");
  shown_ = false;
}

Log::Log(const std::string& path, int64_t resumed_step) : path_(path) {
  if (path.empty()) return;
  std::string kept;
  if (resumed_step > 0) {
    std::ifstream before(path);
    for (std::string line; std::getline(before, line);) {
      const auto parsed = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
      if (!parsed.is_object() || parsed.value("step", resumed_step + 1) > resumed_step) break;
      kept += line + '\n';
    }
  }
  stream_.open(path, std::ios::trunc);
  stream_ << kept << std::flush;
  if (!stream_)
    throw Failure(text("[log] expected to write '", path, "', got an error; try another file"));
}

void Log::write(const nlohmann::ordered_json& line) {
  if (path_.empty()) return;
  stream_ << line.dump() << std::endl;
  if (!stream_)
    throw Failure(text("[log] expected to write '", path_, "', got an error; is the disk full?"));
}

}  // namespace accrue::examples
