#include "progress.h"

#include <unistd.h>

#include <cstdio>

#include "../program.h"
#include "accrue/core/file.h"

namespace accrue::examples {

void say(const std::string& line) {
  const char* clear = isatty(STDERR_FILENO) == 1 ? "\r\033[K" : "";
  std::fprintf(stderr, "%strain_gpt: %s\n", clear, line.c_str());
}

void Troubles::add(const std::string& what) {
  last_ = what;
  if (++count_ == 1) say(what + "; training goes on");
}

int Troubles::report() const {
  if (count_ == 0) return 0;
  say(text("expected all checkpoints and log lines to be written, got ", count_,
           count_ == 1 ? " that was not: " : " that were not, the last: ", last_));
  return 1;
}

namespace {

std::string lines_until(const std::string& path, int64_t last_step) {
  std::string kept;
  std::ifstream before(path);
  for (std::string line; std::getline(before, line);) {  // a killed run may have left half a line
    const auto parsed = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (parsed.is_object() && parsed.value("step", last_step + 1) <= last_step) kept += line + '\n';
  }
  return kept;
}

}  // namespace

Log::Log(const std::string& path, int64_t resumed_step) : path_(path) {
  if (path.empty()) return;
  const std::string kept = resumed_step > 0 ? lines_until(path, resumed_step) : "";
  // Whole or not at all: what was logged must survive being killed here.
  if (!kept.empty()) write_whole(path, std::as_bytes(std::span(kept)));
  stream_.open(path, kept.empty() ? std::ios::trunc : std::ios::app);
  if (!stream_) fail_log(path);
}

void Log::write(const nlohmann::ordered_json& line) {
  if (path_.empty()) return;
  const bool written = static_cast<bool>(stream_ << line.dump() << std::endl);
  if (written) return;
  stream_.clear();
  fail_log(path_);
}

}  // namespace accrue::examples
