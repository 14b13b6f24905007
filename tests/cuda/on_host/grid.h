// A grid of a GPU's threads on the host: block after block, each of its threads a fiber with a
// stack of its own that runs until it waits for others. Orders differ from launch to launch, so
// that what forgets to wait shows. What must not be is refused: barriers that some threads never
// reach, shuffles with a lane that is not there, grids that a device could not take.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>

namespace on_host {

struct dim3 {
  uint32_t x, y, z;
  constexpr dim3(uint32_t x_ = 1, uint32_t y_ = 1, uint32_t z_ = 1) : x(x_), y(y_), z(z_) {}
};

// Of the thread that runs.
extern dim3 threadIdx, blockIdx, blockDim, gridDim;

/// Runs `thread` once in each thread of the grid. Throws accrue::Failure for what is refused.
void launch(dim3 grid, dim3 block, const std::function<void()>& thread);

/// Fills an array that the threads of a block share, once for each block: what is read before it is
/// written is no number.
void shared(void* array, size_t bytes);
/// Waits for all threads of the block that have not ended.
void sync();
/// The word that the lane whose number differs in these bits gives at the same time.
uint64_t exchange(uint64_t word, int bits);

}  // namespace on_host
