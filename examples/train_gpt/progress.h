// What a run shows while it goes: a line on a terminal, a log of JSON lines.
#pragma once
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "../progress_line.h"

namespace accrue::examples {

/// One line on stderr, after a progress line was cleared.
void say(const std::string& line);

/// What could not be written while the training went on.
class Troubles {
 public:
  /// Runs `write` and returns whether it worked. What it throws is kept; the first is said at once.
  template <class Write>
  bool watch(Write&& write) {
    try {
      write();
      return true;
    } catch (const std::exception& error) {
      add(error.what());
      return false;
    }
  }
  /// Says again how often and why. Returns the exit status.
  int report() const;

 private:
  void add(const std::string& what);

  int64_t count_ = 0;
  std::string last_;
};

/// A JSON object per step, written through at once. Without a path: nothing.
class Log {
 public:
  /// A resumed run keeps the lines up to `resumed_step` and drops those that it will compute again.
  /// Throws Failure if the file cannot be written.
  Log(const std::string& path, int64_t resumed_step);
  /// Throws Failure if the line cannot be written; later ones may be.
  void write(const nlohmann::ordered_json& line);

 private:
  std::string path_;
  std::ofstream stream_;
};

}  // namespace accrue::examples
