#include "command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>

namespace accrue::examples {
namespace {

template <class T>
CLI::Option* option(CLI::App& app, const char* flag, T& value, const char* help) {
  CLI::Option* const made = app.add_option(flag, value, help);
  // Nothing and zero stand for a default that is found later; the help says which.
  return value == T{} ? made : made->capture_default_str();
}

/// CLI11 reads 010 as 8, clips what does not fit, and says of "two" only that it cannot convert it.
template <auto convert>  // strtoll or strtoull
std::string whole_number(const std::string& word) {
  char* end = nullptr;
  errno = 0;
  convert(word.c_str(), &end, 0);
  const std::string digits = word.substr(std::min(word.find_first_of("0123456789"), word.size()));
  const bool octal = digits.size() > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9';
  if (digits.empty() || *end != '\0' || octal) return "expected a whole number, as 10, got " + word;
  return errno == 0 ? "" : "expected a number of 64 bits, got " + word;
}

std::string number(const std::string& word) {
  char* end = nullptr;
  const double value = std::strtod(word.c_str(), &end);
  const bool good = !word.empty() && *end == '\0' && std::isfinite(value);
  return good ? "" : "expected a finite number, got " + word;
}

void check_numbers(CLI::App& app) {
  for (CLI::Option* one : app.get_options()) {
    const std::string type = one->get_type_name();
    if (type == "INT") one->check(whole_number<std::strtoll>);
    if (type == "UINT") one->check(whole_number<std::strtoull>);
    if (type == "FLOAT") one->check(number);
  }
}

}  // namespace

CLI::Validator one_of(std::vector<std::string> words) {
  std::string all;
  for (const std::string& one : words) all += (all.empty() ? "" : ",") + one;
  const auto check = [words = std::move(words), all](const std::string& word) -> std::string {
    if (std::ranges::find(words, word) != words.end()) return "";
    return "expected one of " + all + "; got " + word;
  };
  return {check, "{" + all + "}"};
}

std::string positive(const std::string& word) {
  char* end = nullptr;
  const bool good = std::strtoll(word.c_str(), &end, 0) > 0;
  // Of what is no number, the flag's own check complains.
  return good || word.empty() || *end != '\0' ? "" : "expected at least 1, got " + word;
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
  option(*app_, flag, value, help)->check(one_of(std::move(words)));
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
  check_numbers(*app_);
  try {
    app_->parse(argc, argv);
    return true;
  } catch (const CLI::CallForHelp&) {
    std::printf("%s", app_->help().c_str());
    return false;
  } catch (const CLI::ConversionError& error) {  // a number, but beyond its type
    throw WrongUsage(text(error.what(), ": expected a smaller number"));
  } catch (const CLI::ExtrasError&) {
    std::string words;
    for (const std::string& word : app_->remaining()) words += ' ' + word;
    throw WrongUsage("expected flags of this program, got what is not expected:" + words);
  } catch (const CLI::ParseError& error) {
    throw WrongUsage(error.what());
  }
}

}  // namespace accrue::examples
