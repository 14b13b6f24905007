// What the tutorial's programs share: their one flag, and what follows from it.
#pragma once
#include "../command_line.h"

namespace accrue::examples {

/// f64 where the device has it.
inline DType widest(Device device) {
  return device.backend->supports(DType::f64) ? DType::f64 : DType::f32;
}

/// Runs body(device) with the device of the command line.
template <class Body>
int run_tutorial(const char* name, const char* about, int argc, char** argv, const Body& body) {
  return run_program(name, [&] {
    CommandLine flags(name, about);
    // Plain loops, whatever the machine has: a chapter quotes numbers that its readers should see.
    std::string device = "reference";
    flags.add("--device", device,
              "By default not the fastest: reference prints the same numbers on every machine, and "
              "the tutorial quotes them; cuda needs a GPU and a build with it",
              {"cpu", "reference", "cuda"});
    if (flags.parse(argc, argv)) body(device_named(device));
  });
}

}  // namespace accrue::examples
