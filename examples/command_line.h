// The flags of a program. CLI11 reads them, which takes long to compile: only command_line.cpp and
// the files that add train_gpt's flags include it.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "program.h"

namespace CLI {
class App;
class Validator;
}  // namespace CLI

namespace accrue::examples {

/// A check for CLI11: what is wrong with a word that should be a number above zero, or "".
std::string positive(const std::string& word);
/// The same for a word that should be one of these, which the help lists. Include <CLI/CLI.hpp>.
CLI::Validator one_of(std::vector<std::string> words);

/// What a flag may hold is its value's type; its default is what the value holds when the flag is
/// added, unless that is nothing or zero. Of a flag given twice the last
/// counts, so that scripts can be overridden.
class CommandLine {
 public:
  CommandLine(const char* name, const char* about);
  ~CommandLine();
  CommandLine(const CommandLine&) = delete;

  /// T: int, int64_t, uint64_t or std::string.
  template <class T>
  void add(const char* flag, T& value, const char* help = "");
  /// Several words.
  void add(const char* flag, std::vector<std::string>& values, const char* help);
  /// A word out of a few.
  void add(const char* flag, std::string& value, const char* help, std::vector<std::string> words);
  /// A number above zero, or several.
  template <class T>
  void add_positive(const char* flag, T& value, const char* help = "");
  void add_positive(const char* flag, std::vector<int64_t>& values, const char* help);
  void add_switch(const char* flag, bool& value, const char* help);
  /// A flag that must be given.
  void add_required(const char* flag, std::string& value, const char* help);

  /// --device; `word` is then its default: a GPU where there is one.
  void add_device(std::string& word);
  /// --f32-products
  void add_f32_products(std::string& word);

  /// False: help was asked for and printed. Throws WrongUsage.
  bool parse(int argc, char** argv);

  /// For flags with conditions of their own; include <CLI/CLI.hpp>.
  CLI::App& app() { return *app_; }

 private:
  std::unique_ptr<CLI::App> app_;
};

}  // namespace accrue::examples
