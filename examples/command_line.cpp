#include "command_line.h"

#include <CLI/CLI.hpp>
#include <charconv>

namespace accrue::examples {
namespace {

template <class T>
CLI::Option* option(CLI::App& app, const char* flag, T& value, const char* help) {
  CLI::Option* const made = app.add_option(flag, value, help);
  // Nothing and zero stand for a default that is found later; the help says which.
  return value == T{} ? made : made->capture_default_str();
}

}  // namespace

std::string positive(const std::string& word) {
  int64_t number = 1;  // of what is no number, the flag's own type complains
  std::from_chars(word.data(), word.data() + word.size(), number);
  return number > 0 ? "" : "expected at least 1, got " + word;
}

CommandLine::CommandLine(const char* name, const char* about)
    : app_(std::make_unique<CLI::App>(about, name)) {
  app_->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

CommandLine::~CommandLine() = default;

template <class T>
void CommandLine::add(const char* flag, T& value, const char* help) {
  option(*app_, flag, value, help);
}
template void CommandLine::add(const char*, int&, const char*);
template void CommandLine::add(const char*, int64_t&, const char*);
template void CommandLine::add(const char*, uint64_t&, const char*);
template void CommandLine::add(const char*, std::string&, const char*);

void CommandLine::add(const char* flag, std::vector<std::string>& values, const char* help) {
  app_->add_option(flag, values, help)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void CommandLine::add(const char* flag, std::string& value, const char* help,
                      std::vector<std::string> words) {
  option(*app_, flag, value, help)->check(CLI::IsMember(std::move(words)));
}

template <class T>
void CommandLine::add_positive(const char* flag, T& value, const char* help) {
  option(*app_, flag, value, help)->check(positive);
}
template void CommandLine::add_positive(const char*, int&, const char*);
template void CommandLine::add_positive(const char*, int64_t&, const char*);
template void CommandLine::add_positive(const char*, uint64_t&, const char*);

void CommandLine::add_positive(const char* flag, std::vector<int64_t>& values, const char* help) {
  app_->add_option(flag, values, help)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->check(positive);
}

void CommandLine::add_switch(const char* flag, bool& value, const char* help) {
  app_->add_flag(flag, value, help);
}

void CommandLine::add_required(const char* flag, std::string& value, const char* help) {
  app_->add_option(flag, value, help)->required();
}

void CommandLine::add_device(std::string& word) {
  word = Device::best().backend->name;
  add("--device", word, "cuda needs a GPU and a build with it", {"cpu", "reference", "cuda"});
}

void CommandLine::add_f32_products(std::string& word) {
  add("--f32-products", word, "native; tf32: on a GPU's tensor cores, factors rounded to 10 bits",
      {"native", "tf32"});
}

bool CommandLine::parse(int argc, char** argv) {
  try {
    app_->parse(argc, argv);
    return true;
  } catch (const CLI::CallForHelp&) {
    std::printf("%s", app_->help().c_str());
    return false;
  } catch (const CLI::ParseError& error) {
    throw WrongUsage(error.what());
  }
}

}  // namespace accrue::examples
