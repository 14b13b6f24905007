// LayerNorm and RMSNorm over the last dimension.
#include <array>
#include <cmath>

#include "accrue/core/cpu/dense.h"
#include "accrue/core/cpu/kernels.h"

namespace accrue::cpu {
namespace {

constexpr int64_t work_per_element = 3;

template <class T>
const T* row(const In& x, int64_t r, int64_t columns) {
  return static_cast<const T*>(x.data) + r * columns;
}

/// Σ term(i, mover) over a row, in two registers: one would wait for its own last addition.
template <class Term>
float sum_over(int64_t columns, const Term& term) {
  Floats sums[2]{};
  int64_t i = 0;
  for (; i + 2 * lanes <= columns; i += 2 * lanes) {
    sums[0] += term(i, Whole{});
    sums[1] += term(i + lanes, Whole{});
  }
  by_register(i, columns, [&](int64_t at, auto mover) { sums[0] += term(at, mover); });
  return sum_of_lanes(sums[0] + sums[1]);
}

template <class T>
void norm_row(const kernel::Norm& args, int64_t r, int64_t columns) {
  const T *x = row<T>(args.x, r, columns), *gamma = row<T>(args.gamma, 0, 0);
  const T* beta = row<T>(args.beta, 0, 0);
  T* y = static_cast<T*>(args.y.data) + r * columns;
  if (args.branch) {
    const T* branch = row<T>(args.branch, r, columns);
    T* sum = static_cast<T*>(args.sum.data) + r * columns;
    by_register(0, columns, [=](int64_t i, auto mover) {
      mover.store(sum + i, mover.load(x + i) + mover.load(branch + i));
    });
    x = sum;
  }
  const float count = static_cast<float>(columns);
  const auto at = [=](int64_t i, auto mover) { return mover.load(x + i); };
  const float mean = args.centered ? sum_over(columns, at) / count : 0;
  const auto square = [=](int64_t i, auto mover) {
    // The padding of a register must add nothing.
    const Floats centred = mover.load(x + i) - mover.padded(mean);
    return centred * centred;
  };
  const float variance = sum_over(columns, square) / count;
  const float inverse = 1 / std::sqrt(variance + static_cast<float>(args.epsilon));
  by_register(0, columns, [=](int64_t i, auto mover) {
    Floats values = (mover.load(x + i) - mean) * inverse * mover.load(gamma + i);
    if (beta) values += mover.load(beta + i);
    mover.store(y + i, values);
  });
  float* statistics = static_cast<float*>(args.statistics.data) + r * 2;
  statistics[0] = mean;
  statistics[1] = inverse;
}

/// Sums of one block of rows for the gradients of gamma and beta; null where neither is wanted.
struct Partial {
  float *dgamma, *dbeta;
};

/// With h = dy·gamma and n = (x − μ)·σ⁻¹: sums of h and h·n over the row; what it adds to the
/// gradients of gamma and beta on the way, as x and dy are in registers.
template <bool has_partial, class T>
std::array<float, 2> backward_sums(const T* x, const T* dy, const T* gamma, int64_t columns,
                                   float mean, float inverse, const Partial& partial) {
  const auto [dgamma, dbeta] = partial;
  Floats h_sum{}, hn_sum{};
  by_register(0, columns, [&](int64_t i, auto mover) {
    const Floats n = (mover.load(x + i) - mean) * inverse, slope = mover.load(dy + i);
    const Floats h = slope * mover.load(gamma + i);
    h_sum += h;
    hn_sum += h * n;
    if constexpr (has_partial) {
      put(Writing<Write::add>{}, mover, dgamma + i, slope * n);
      put(Writing<Write::add>{}, mover, dbeta + i, slope);
    }
  });
  return {sum_of_lanes(h_sum), sum_of_lanes(hn_sum)};
}

/// dx = σ⁻¹·(h − E h − n·E(h·n)); the middle term is absent where x was not centred.
template <class T, class How>
void backward_row(const T* x, const T* dy, const T* gamma, T* dx, int64_t columns, float mean,
                  float inverse, float mean_h, float mean_hn, How how) {
  by_register(0, columns, [=](int64_t i, auto mover) {
    const Floats n = (mover.load(x + i) - mean) * inverse;
    const Floats h = mover.load(dy + i) * mover.load(gamma + i);
    put(how, mover, dx + i, (h - mean_h - n * mean_hn) * inverse);
  });
}

template <class T, bool has_partial>
void backward_rows(const kernel::NormBackward& args, int64_t first, int64_t last,
                   const Partial& partial) {
  const int64_t columns = args.gamma.shape.elements();
  const T* gamma = static_cast<const T*>(args.gamma.data);
  for (int64_t r = first; r < last; ++r) {
    const T *x = row<T>(args.x, r, columns), *dy = row<T>(args.dy, r, columns);
    const float* statistics = row<float>(args.statistics, r, 2);
    const float mean = statistics[0], inverse = statistics[1];
    const auto [sum, sum_n] =
        backward_sums<has_partial>(x, dy, gamma, columns, mean, inverse, partial);
    if (!args.dx) continue;
    const float mean_h = args.centered ? sum / static_cast<float>(columns) : 0;
    const float mean_hn = sum_n / static_cast<float>(columns);
    with_write(args.dx->write, [&](auto how) {
      T* dx = static_cast<T*>(args.dx->into.data) + r * columns;
      backward_row(x, dy, gamma, dx, columns, mean, inverse, mean_h, mean_hn, how);
    });
  }
}

/// Rows are cut into blocks by their number alone, so that the sums have the same bits for any
/// number of threads; at most 64 blocks keep the workspace and the last reduction small.
struct Blocks {
  int64_t rows, columns, size, count;
  explicit Blocks(const kernel::NormBackward& args)
      : rows(args.x.shape.elements() / std::max<int64_t>(args.gamma.shape.elements(), 1)),
        columns(args.gamma.shape.elements()),
        size(std::max<int64_t>(16, (rows + 63) / 64)),
        count((rows + size - 1) / size) {}
};

}  // namespace

void norm(const kernel::Norm& args, void*) {
  const int64_t columns = args.gamma.shape.elements();
  with_float(args.x.dtype, [&](auto type) {
    using T = decltype(type);
    const int64_t rows = args.x.shape.elements() / columns;
    parallel_rows(rows, columns * work_per_element, [&](int64_t first, int64_t last) {
      for (int64_t r = first; r < last; ++r) norm_row<T>(args, r, columns);
    });
  });
}

size_t norm_backward_workspace(const kernel::NormBackward& args) {
  if (!args.dgamma && !args.dbeta) return 0;
  const Blocks blocks(args);
  return blocks.count * 2 * blocks.columns * sizeof(float);
}

void norm_backward(const kernel::NormBackward& args, void* workspace) {
  const Blocks blocks(args);
  float* dgamma = static_cast<float*>(workspace);
  float* dbeta = dgamma + blocks.count * blocks.columns;
  with_float(args.x.dtype, [&](auto type) {
    using T = decltype(type);
    const int64_t work = blocks.size * blocks.columns * 2 * work_per_element;
    parallel_rows(blocks.count, work, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        const int64_t first = b * blocks.size, last = std::min(first + blocks.size, blocks.rows);
        if (!workspace) {
          backward_rows<T, false>(args, first, last, {});
          continue;
        }
        const Partial partial{dgamma + b * blocks.columns, dbeta + b * blocks.columns};
        std::fill_n(partial.dgamma, blocks.columns, 0.0f);
        std::fill_n(partial.dbeta, blocks.columns, 0.0f);
        backward_rows<T, true>(args, first, last, partial);
      }
    });
  });
  if (args.dgamma) sum_columns(dgamma, blocks.count, blocks.columns, *args.dgamma);
  if (args.dbeta) sum_columns(dbeta, blocks.count, blocks.columns, *args.dbeta);
}

}  // namespace accrue::cpu
