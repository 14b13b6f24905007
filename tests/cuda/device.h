// Tests that need a GPU ask here, and end where there is none.
#pragma once
#include <doctest/doctest.h>

#include "accrue/core/tensor.h"

namespace accrue::test {

/// Says why nothing is tested. Not to be asked before main: kernels register while objects are
/// made.
inline bool without_device() {
  if (Device::has_cuda()) return false;
  MESSAGE("skipped: no GPU can be used here");
  return true;
}

}  // namespace accrue::test
