// Cross-entropy and squared error: sums over rows are in double and in a fixed order.
#include <cmath>
#include <limits>

#include "accrue/core/cpu/dense.h"
#include "accrue/core/cpu/kernels.h"
#include "accrue/core/cpu/strided.h"

namespace accrue::cpu {
namespace {

constexpr int64_t work_of_exp = 4;  // simple operations

/// max(high, max x[first…last)); a NaN may be passed over, the sum of exponentials keeps it.
template <class T>
float highest(const T* x, int64_t first, int64_t last, float high) {
  const int64_t whole = last - (last - first) % lanes;
  Floats tops = all_of(high);
  for (int64_t i = first; i < whole; i += lanes) {
    const Floats values = load(x + i);
    tops = values > tops ? values : tops;
  }
  for (int i = 0; i < lanes; ++i) high = std::max(high, tops[i]);
  for (int64_t i = whole; i < last; ++i) high = std::max(high, float(x[i]));
  return high;
}

/// Σ exp(x − top) over [first, last).
template <class T>
float sum_of_exps(const T* x, int64_t first, int64_t last, float top) {
  const int64_t whole = last - (last - first) % lanes;
  Floats sums{};
  for (int64_t i = first; i < whole; i += lanes) sums += fast_exp(load(x + i) - top);
  float sum = sum_of_lanes(sums);
  for (int64_t i = whole; i < last; ++i) sum += fast_exp(float(x[i]) - top);
  return sum;
}

/// log Σ exp x in one pass over memory: maximum and sum go chunk by chunk, from the L1 cache; the
/// sum so far is rescaled where the maximum rises.
template <class T>
float log_sum(const T* x, int64_t n) {
  constexpr int64_t chunk = 2048;
  float top = std::numeric_limits<float>::lowest();  // not −inf: masked logits may all be −inf
  double total = 0;
  for (int64_t first = 0; first < n; first += chunk) {
    const int64_t last = std::min(n, first + chunk);
    const float high = highest(x, first, last, top);
    if (high > top) total *= std::exp(static_cast<double>(top) - high);
    top = high;
    total += sum_of_exps(x, first, last, top);
  }
  return static_cast<float>(top + std::log(total));
}

/// One row of dlogits. The target's element is read before the row is written: the places may be
/// the logits themselves. There p − 1 is formed before it is scaled.
template <class T, class How>
void cross_entropy_row(const T* logits, T* dlogits, int64_t n, int64_t target, float logsum,
                       float factor, How how) {
  T place = dlogits[target];
  put(how, place, factor * (fast_exp(float(logits[target]) - logsum) - 1));
  by_register(0, n, [=](int64_t i, auto mover) {
    put(how, mover, dlogits + i, factor * fast_exp(mover.load(logits + i) - logsum));
  });
  dlogits[target] = place;
}

constexpr int64_t error_block = 65536;
int64_t blocks_of(const In& x) { return (x.shape.elements() + error_block - 1) / error_block; }

}  // namespace

void cross_entropy(const kernel::CrossEntropy& args, void*) {
  const int64_t vocabulary = args.logits.shape[-1], rows = args.targets.shape.elements();
  const int32_t* targets = static_cast<const int32_t*>(args.targets.data);
  float* logsum = static_cast<float*>(args.logsum.data);
  with_float(args.logits.dtype, [&](auto type) {
    const auto* logits = static_cast<const decltype(type)*>(args.logits.data);
    parallel_rows(rows, vocabulary * work_of_exp, [=](int64_t first, int64_t last) {
      for (int64_t r = first; r < last; ++r)
        logsum[r] = log_sum(logits + r * vocabulary, vocabulary);
    });
    double loss = 0;
    for (int64_t r = 0; r < rows; ++r)
      if (targets[r] != args.ignore)
        loss += static_cast<double>(logsum[r]) - float(logits[r * vocabulary + targets[r]]);
    write_block(&loss, args.loss, 0, 0, 1, args.write);
  });
}

void cross_entropy_backward(const kernel::CrossEntropyBackward& args, void*) {
  const int64_t vocabulary = args.logits.shape[-1], rows = args.targets.shape.elements();
  const int64_t ignore = args.ignore;
  const int32_t* targets = static_cast<const int32_t*>(args.targets.data);
  const float* logsum = static_cast<const float*>(args.logsum.data);
  const float factor = static_cast<float>(number_of(args.factor));
  with_float(args.logits.dtype, [&](auto type) {
    using T = decltype(type);
    with_write(args.dlogits.write, [&](auto how) {
      const T* logits = static_cast<const T*>(args.logits.data);
      T* dlogits = static_cast<T*>(args.dlogits.into.data);
      parallel_rows(rows, vocabulary * work_of_exp, [=](int64_t first, int64_t last) {
        for (int64_t r = first; r < last; ++r) {
          T* place = dlogits + r * vocabulary;
          if (targets[r] != ignore)
            cross_entropy_row(logits + r * vocabulary, place, vocabulary, targets[r], logsum[r],
                              factor, how);
          else if (how == Write::set)
            std::fill_n(place, vocabulary, T(0.0f));
        }
      });
    });
  });
}

void count_targets(const kernel::CountTargets& args, void*) {
  const int32_t* targets = static_cast<const int32_t*>(args.targets.data);
  const int64_t n = args.targets.shape.elements();
  int64_t count = 0;
  for (int64_t r = 0; r < n; ++r) count += targets[r] != args.ignore;
  *static_cast<int64_t*>(args.count.data) = count;
}

size_t squared_error_workspace(const kernel::SquaredError& args) {
  return blocks_of(args.x) * sizeof(double);
}

void squared_error(const kernel::SquaredError& args, void* workspace) {
  const int64_t n = args.x.shape.elements(), blocks = blocks_of(args.x);
  double* sums = static_cast<double*>(workspace);
  with_float(args.x.dtype, [&](auto type) {
    const auto* x = static_cast<const decltype(type)*>(args.x.data);
    const auto* target = static_cast<const decltype(type)*>(args.target.data);
    parallel_rows(blocks, error_block, [=](int64_t first, int64_t last) {
      for (int64_t b = first; b < last; ++b) {
        const int64_t end = std::min(n, (b + 1) * error_block);
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = b * error_block; i < end; ++i) {
          const double error = float(x[i]) - float(target[i]);
          sum += error * error;
        }
        sums[b] = sum;
      }
    });
  });
  double loss = 0;
  for (int64_t b = 0; b < blocks; ++b) loss += sums[b];
  write_block(&loss, args.loss, 0, 0, 1, Write::set);
}

void squared_error_backward(const kernel::SquaredErrorBackward& args, void*) {
  const float factor = static_cast<float>(2 * number_of(args.factor));
  with_float(args.x.dtype, [&](auto type) {
    using T = decltype(type);
    with_write(args.dx.write, [&](auto how) {
      const T* x = static_cast<const T*>(args.x.data);
      const T* target = static_cast<const T*>(args.target.data);
      T* dx = static_cast<T*>(args.dx.into.data);
      parallel_rows(args.x.shape.elements(), 1, [=](int64_t first, int64_t last) {
#pragma omp simd
        for (int64_t i = first; i < last; ++i)
          put(how, dx[i], factor * (float(x[i]) - float(target[i])));
      });
    });
  });
}

}  // namespace accrue::cpu
