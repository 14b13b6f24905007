// A batch of the user's own, for the programs beside it.
#pragma once
#include "accrue/autograd/cycle.h"
#include "accrue/autograd/operations.h"

using namespace accrue;

struct Rows {
  Tensor x;
  std::vector<int64_t> indices;
  std::span<const int64_t> samples() const { return indices; }
  Rows slice(int64_t first, int64_t count) const {
    return {x.slice(first, count), {indices.begin() + first, indices.begin() + first + count}};
  }
};
