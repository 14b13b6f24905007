// cross_check: every kernel of a device against the reference, one row for each kernel.
// The cases and what is allowed are those of the table in tests/kernels.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "../examples/command_line.h"
#include "cuda/through_device.h"
#include "kernels/cases.h"
#include "remote/device.h"

using namespace accrue;
using namespace accrue::test;

namespace {

struct Result {
  int64_t cases = 0, failed = 0, other_bits = 0;
  double error = 0;  // the largest, in units of what its case allows
  std::string worst, first_failure;
  double seconds = 0;
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void note_failure(Result& result, const std::string& name, const std::string& what) {
  ++result.failed;
  if (result.first_failure.empty()) result.first_failure = name + ": " + what;
}

void check_case(const Row& row, const Case& one, Device device, Result& result) {
  ++result.cases;
  try {
    const Stage expected = run_case(one, Device::reference());
    const Stage actual = run_case(one, device, &expected);
    const bool same = same_bits(actual, run_case(one, device, &expected));
    result.other_bits += !same;
    const double error = error_in_bounds(expected, actual);
    if (error > result.error) {
      result.error = error;
      result.worst = one.name;
    }
    std::string found = difference(expected, actual);
    if (found.empty() && !same) found = "other bits when it is run again";
    if (found.empty() && !expected.launched(row.kernel)) found = "never launches the kernel";
    if (!found.empty()) note_failure(result, one.name, found);
  } catch (const std::exception& error) {
    note_failure(result, one.name, error.what());
  }
}

Device device_named(const std::string& word) {
  if (word == "cuda") return through<Device::cuda>();
  return word == "remote" ? through<remote>() : Device::cpu();
}

/// "Map<Add>" of "accrue::kernel::Map<accrue::fold::Add>".
std::string short_name(std::string name) {
  for (const char* space : {"accrue::kernel::", "accrue::fold::"})
    if (const size_t at = name.find(space); at != std::string::npos)
      name.erase(at, std::string_view(space).size());
  return name;
}

/// Only kernels whose name contains `kernel`.
nlohmann::ordered_json check_all(Device device, const std::string& kernel, size_t every) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  std::printf("%-24s %6s %6s %14s %8s  %s\n", "kernel", "cases", "failed", "error/allowed",
              "repeats", "worst case");
  for (const Row& row : table()) {
    const std::string name = short_name(row.name);
    if (name.find(kernel) == std::string::npos) continue;
    Result result;
    const double start = now();
    for (size_t i = 0; i < row.cases.size(); i += every)
      check_case(row, row.cases[i], device, result);
    result.seconds = now() - start;
    std::printf("%-24s %6ld %6ld %14.3g %8s  %s\n", name.c_str(), static_cast<long>(result.cases),
                static_cast<long>(result.failed), result.error, result.other_bits ? "NO" : "yes",
                result.worst.c_str());
    if (result.failed > 0) std::printf("    %s\n", result.first_failure.c_str());
    std::fflush(stdout);
    nlohmann::ordered_json one{{"kernel", name},
                               {"cases", result.cases},
                               {"failed", result.failed},
                               {"error_over_allowed", nullptr},
                               {"worst_case", result.worst},
                               {"same_bits_twice", result.other_bits == 0},
                               {"seconds", result.seconds}};
    if (std::isfinite(result.error)) one["error_over_allowed"] = result.error;
    if (result.failed > 0) one["first_failure"] = result.first_failure;
    rows.push_back(one);
  }
  return rows;
}

int run(int argc, char** argv) {
  examples::CommandLine flags(
      "cross_check",
      "Runs every kernel case on a device and on the reference: the largest error in units of what "
      "the case allows, and whether a second run gives the same bits. Ends with 1 if a case fails");
  std::string device = "cpu", kernel;
  size_t every = 1;
  flags.add("--device", device, "remote: the reference on memory that the host cannot read",
            {"cpu", "cuda", "remote"});
  flags.add("--kernel", kernel, "only kernels whose name contains this");
  flags.add_positive("--every", every, "only each of so many cases");
  if (!flags.parse(argc, argv)) return 0;
  const nlohmann::ordered_json rows = check_all(device_named(device), kernel, every);
  int64_t failed = 0, cases = 0;
  for (const auto& row : rows) {
    failed += row["failed"].get<int64_t>();
    cases += row["cases"].get<int64_t>();
  }
  const nlohmann::ordered_json result{
      {"device", device}, {"cases", cases}, {"failed", failed}, {"rows", rows}};
  std::printf("%s\n", result.dump().c_str());
  return failed > 0 || cases == 0;
}

}  // namespace

int main(int argc, char** argv) {
  return examples::run_program("cross_check", [&] { return run(argc, argv); });
}
