// A double in a checkpoint: its bits as an integer, so that it comes back exactly, infinite or not.
#pragma once
#include <bit>
#include <string_view>

#include "accrue/autograd/module.h"

namespace accrue {

inline void visit_number(Visitor& part, std::string_view name, double& number) {
  auto bits = std::bit_cast<int64_t>(number);
  part(name, bits);
  number = std::bit_cast<double>(bits);
}

}  // namespace accrue
