// LayerNorm and RMSNorm over the last dimension.
#include <cmath>

#include "accrue/core/cpu/dispatch.h"
#include "accrue/core/cpu/kernels.h"

namespace accrue::cpu {
namespace {

constexpr int64_t work_per_element = 3;

template <class T>
const T* row(const In& x, int64_t r, int64_t columns) {
  return static_cast<const T*>(x.data) + r * columns;
}

template <class T, bool has_beta>
void norm_row(
    const T* x, const T* gamma, const T* beta, T* y, float* statistics, int64_t columns,
    float epsilon, bool centered) {
  float mean = 0, square = 0;
  if (centered) {
#pragma omp simd reduction(+ : mean)
    for (int64_t i = 0; i < columns; ++i) mean += to_float(x[i]);
    mean /= static_cast<float>(columns);
  }
#pragma omp simd reduction(+ : square)
  for (int64_t i = 0; i < columns; ++i) {
    const float centred = to_float(x[i]) - mean;
    square += centred * centred;
  }
  const float inverse = 1 / std::sqrt(square / static_cast<float>(columns) + epsilon);
#pragma omp simd
  for (int64_t i = 0; i < columns; ++i) {
    const float scaled = (to_float(x[i]) - mean) * inverse * to_float(gamma[i]);
    y[i] = from_float<T>(has_beta ? scaled + to_float(beta[i]) : scaled);
  }
  statistics[0] = mean;
  statistics[1] = inverse;
}

/// Sums of one block of rows for gradients of gamma and beta.
struct Partial {
  float *dgamma, *dbeta;
};

/// With h = dy·gamma and n = (x − μ)·σ⁻¹: sums of h and h·n over the row; what it adds to the
/// gradients of gamma and beta on the way, as x and dy are in registers.
template <class T, bool has_partial>
void backward_sums(
    const T* x, const T* dy, const T* gamma, int64_t columns, float mean, float inverse,
    const Partial& partial, float& sum, float& sum_n) {
  float* dgamma = partial.dgamma;
  float* dbeta = partial.dbeta;
  float h_sum = 0, hn_sum = 0;
#pragma omp simd reduction(+ : h_sum, hn_sum)
  for (int64_t i = 0; i < columns; ++i) {
    const float n = (to_float(x[i]) - mean) * inverse, slope = to_float(dy[i]);
    const float h = slope * to_float(gamma[i]);
    h_sum += h;
    hn_sum += h * n;
    if constexpr (has_partial) {
      dgamma[i] += slope * n;
      dbeta[i] += slope;
    }
  }
  sum = h_sum;
  sum_n = hn_sum;
}

/// dx = σ⁻¹·(h − E h − n·E(h·n)); the middle term is absent where x was not centred.
template <class T, class How>
void backward_row(
    const T* x, const T* dy, const T* gamma, T* dx, int64_t columns, float mean, float inverse,
    float mean_h, float mean_hn, How how) {
#pragma omp simd
  for (int64_t i = 0; i < columns; ++i) {
    const float n = (to_float(x[i]) - mean) * inverse;
    const float h = to_float(dy[i]) * to_float(gamma[i]);
    put(how, dx[i], (h - mean_h - n * mean_hn) * inverse);
  }
}

template <class T, bool has_partial>
void backward_rows(
    const kernel::NormBackward& args, int64_t first, int64_t last, const Partial& partial) {
  const int64_t columns = args.gamma.shape.elements();
  const T* gamma = static_cast<const T*>(args.gamma.data);
  for (int64_t r = first; r < last; ++r) {
    const T *x = row<T>(args.x, r, columns), *dy = row<T>(args.dy, r, columns);
    const float* statistics = row<float>(args.statistics, r, 2);
    const float mean = statistics[0], inverse = statistics[1];
    float sum, sum_n;
    backward_sums<T, has_partial>(x, dy, gamma, columns, mean, inverse, partial, sum, sum_n);
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
    const T* gamma = static_cast<const T*>(args.gamma.data);
    const T* beta = static_cast<const T*>(args.beta.data);
    const auto run = args.beta ? norm_row<T, true> : norm_row<T, false>;
    parallel_rows(
        args.x.shape.elements() / columns, columns * work_per_element,
        [&](int64_t first, int64_t last) {
          for (int64_t r = first; r < last; ++r)
            run(row<T>(args.x, r, columns), gamma, beta, static_cast<T*>(args.y.data) + r * columns,
                static_cast<float*>(args.statistics.data) + r * 2, columns,
                static_cast<float>(args.epsilon), args.centered);
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
