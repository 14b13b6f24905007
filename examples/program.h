// What every example shares: exit statuses, the one line of an error, devices by name. Flags are
// command_line.h's, JSON is json.h's: both take long to compile.
#pragma once
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "accrue/accrue.h"
#include "accrue/cuda/matmul.h"

namespace accrue::examples {

/// Flags that can never work: exit status 2.
struct WrongUsage : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Throws WrongUsage with the joined parts unless `good`.
template <class... Parts>
void require_usage(bool good, const Parts&... parts) {
  if (!good) throw WrongUsage(text(parts...));
}

/// Runs a check of the library on what the command line said.
template <class Check>
void as_usage(const char* flag, Check&& check) {
  try {
    check();
  } catch (const BadArgument& error) {
    throw WrongUsage(text(flag, error.what()));
  }
}

/// Whether both paths lead to one file, or would once it is made. Devices may be shared.
inline bool same_file(const std::string& a, const std::string& b) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (fs::exists(a, error) && !fs::is_regular_file(a, error)) return false;
  if (fs::equivalent(a, b, error) && !error) return true;
  return fs::weakly_canonical(a, error) == fs::weakly_canonical(b, error) && !error;
}

/// Throws WrongUsage if two of the flags name one file, which would be written over. An empty path
/// is none.
inline void require_distinct(std::vector<std::pair<const char*, std::string>> files) {
  std::erase_if(files, [](const auto& file) { return file.second.empty(); });
  for (size_t i = 0; i < files.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      require_usage(!same_file(files[i].second, files[j].second), files[i].first,
                    ": expected another file than that of ", files[j].first, ", got '",
                    files[i].second, "' for both");
}

/// Throws Failure: `path` could not be written, in the system's words.
[[noreturn]] inline void fail_log(const std::string& path, int error = errno) {
  const std::string why = error == 0 ? "an error" : std::generic_category().message(error);
  throw Failure(text("[log] expected to write '", path, "', got: ", why, "; try another file"));
}

/// The device of that name. Throws Failure, which says what to do, where there is none.
inline Device device_named(const std::string& word) {
  if (word == "cuda") return Device::cuda();
  return word == "reference" ? Device::reference() : Device::cpu();
}

/// Chooses f32 products for the process. Throws WrongUsage where the device has no others.
inline void choose_f32_products(const std::string& word, Device device) {
  if (word != "tf32") return;
  require_usage(device.backend->name == std::string_view("cuda"),
                "--f32-products tf32: expected --device cuda, got ", device.backend->name);
  cuda::allow_tf32(true);
}

/// Runs `body`, which may return the exit status; an exception becomes one line on stderr and the
/// status. So does a result that could not be printed: on a full disk, say.
template <class Body>
int run_program(const char* name, Body&& body) {
  const auto fail = [name](const std::exception& error, const char* advice, int status) {
    std::fprintf(stderr, "%s: %s%s\n", name, error.what(), advice);
    return status;
  };
  try {
    int status = 0;
    if constexpr (std::is_void_v<decltype(body())>)
      body();
    else
      status = body();
    const int error = std::fflush(stdout) != 0 ? errno : 0;
    if ((error != 0 || std::ferror(stdout) != 0) && status == 0)
      throw Failure(text("expected to print to standard output, got: ",
                         error == 0 ? "an error" : std::generic_category().message(error)));
    return status;
  } catch (const WrongUsage& error) {
    const bool advised = std::string_view(error.what()).find("; try ") != std::string_view::npos;
    return fail(error, advised ? "" : "; try --help", 2);
  } catch (const std::bad_alloc& error) {
    return fail(error, ": no memory left; try smaller sizes", 1);
  } catch (const std::exception& error) {
    return fail(error, "", 1);
  }
}

}  // namespace accrue::examples
