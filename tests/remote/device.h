// The test backend `remote`: reference's kernels on memory that nothing can touch where its tensors
// point; the kernels see it elsewhere. What reads or writes a device's memory by itself crashes
// here, without a GPU.
// Graphs of its kernels keep each launch's arguments by value, as a GPU's do.
#pragma once
#include "accrue/core/kernels.h"

namespace accrue::test {

/// Kernels refuse arguments that lie elsewhere: throws BadArgument, naming the kernel.
Device remote();

/// Transfers between the host's memory and remote's since the program began.
struct Transfers {
  int64_t to_host = 0, from_host = 0, uploads = 0;
};
Transfers transfers();

/// A negative control: while it lives, recorded kernels keep the cycle's number of their keys.
struct BakedKeys {
  BakedKeys();
  ~BakedKeys();
};

}  // namespace accrue::test
