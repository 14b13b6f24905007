// Clocks, random data, and seconds of what is enqueued on a device.
#pragma once
#include <functional>
#include <utility>
#include <vector>

#include "accrue/core/kernels.h"

namespace accrue::bench {

double now();
double median(std::vector<double> values);

/// Two of the values, between which the median of what they are drawn from, one by one, lies with
/// at least 95 %; of fewer than six, the least and the greatest, with less.
std::pair<double, double> interval_of_median(std::vector<double> values);

/// Waits until the device has done all that was enqueued: one number travels to the host.
void wait(Device device);

/// Seconds of one call, the median of `repeats` after one that warms up. On a GPU each of them is
/// as many calls as take 5 ms, so that the wait at their end does not count.
double seconds_per_call(Device device, int repeats, const std::function<void()>& call);

/// Numbers in [−½, ½), contiguous. A block of 4,194,301 is repeated: no row is like the next one.
Tensor random_tensor(const Shape& shape, DType dtype, Device device);
/// Whole numbers below `limit`, i32.
Tensor random_ids(const Shape& shape, int64_t limit, Device device);

/// Bytes a second of a plain copy (read + write) of buffers beyond the caches; on the CPU by both
/// cores.
double copy_bandwidth(Device device);

}  // namespace accrue::bench
