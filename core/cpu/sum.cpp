// SumTo and Dot: every order of additions is fixed, whatever the number of threads.
#include "accrue/core/cpu/dense.h"
#include "accrue/core/cpu/items.h"
#include "accrue/core/cpu/kernels.h"
#include "accrue/core/cpu/strided.h"

namespace accrue::cpu {
namespace {

/// Σ_r from[r, c]: each thread sums its own columns over all rows, eight rows at a time, which
/// shortens the chain of roundings as well as the traffic to the sums.
template <class From, class To, class How>
void columns_of(const From* from, int64_t rows, int64_t stride, int64_t columns, To* to, How how) {
  parallel_rows(columns, rows, [=](int64_t begin, int64_t end) {
    constexpr int64_t strip = 512;
    float sums[strip];
    for (int64_t first = begin; first < end; first += strip) {
      const int64_t n = std::min(strip, end - first);
      std::fill_n(sums, n, 0.0f);
      int64_t r = 0;
      for (; r + 8 <= rows; r += 8) {
        const From* x = from + r * stride + first;
        const auto at = [&](int64_t row, int64_t i) { return float(x[row * stride + i]); };
#pragma omp simd
        for (int64_t i = 0; i < n; ++i)
          sums[i] += ((at(0, i) + at(1, i)) + (at(2, i) + at(3, i))) +
                     ((at(4, i) + at(5, i)) + (at(6, i) + at(7, i)));
      }
      for (; r < rows; ++r) {
        const From* x = from + r * stride + first;
#pragma omp simd
        for (int64_t i = 0; i < n; ++i) sums[i] += float(x[i]);
      }
#pragma omp simd
      for (int64_t i = 0; i < n; ++i) put(how, to[first + i], sums[i]);
    }
  });
}

/// Σ_i x[i], dense: f32 within a chunk, double across chunks.
template <class From>
double sum_of(const From* x, int64_t n) {
  constexpr int64_t chunk = 1024;
  double total = 0;
  for (int64_t first = 0; first < n; first += chunk) {
    const int64_t last = std::min(n, first + chunk);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = first; i < last; ++i) sum += float(x[i]);
    total += sum;
  }
  return total;
}

/// The sums that matter for speed: over the rows or over the columns of a dense matrix. A vector is
/// a matrix of one row.
bool fast_sum(const Loops<2>& loops, const In& from, const Out& to, Write write) {
  if (loops.rank < 1 || loops.rank > 2 || !is_fast(from.dtype) || !is_fast(to.dtype)) return false;
  const int64_t rows = loops.rank == 2 ? loops.sizes[0] : 1, columns = loops.sizes[loops.rank - 1];
  const auto outer = loops.rank == 2 ? loops.strides[0] : Loops<2>::Strides{};
  const auto inner = loops.inner();
  const bool over_rows = outer[1] == 0 && inner[1] == 1, over_columns = inner[1] == 0;
  if (inner[0] != 1 || !(over_rows || over_columns)) return false;
  with_float(from.dtype, [&](auto source) {
    with_float(to.dtype, [&](auto place) {
      with_write(write, [&](auto how) {
        const auto* x = static_cast<const decltype(source)*>(from.data);
        auto* sums = static_cast<decltype(place)*>(to.data);
        if (over_rows) return columns_of(x, rows, outer[0], columns, sums, how);
        parallel_rows(rows, columns, [=](int64_t first, int64_t last) {
          for (int64_t r = first; r < last; ++r)
            put(how, sums[r * outer[1]], static_cast<float>(sum_of(x + r * outer[0], columns)));
        });
      });
    });
  });
  return true;
}

/// Any dtypes and strides, in double.
void general_sum(const Loops<2>& loops, const In& from, const Out& to, Write write) {
  Loops<2> kept;
  Loops<1> summed;
  for (int i = 0; i < loops.rank; ++i) {
    if (loops.strides[i][1] != 0)
      kept.push(loops.sizes[i], loops.strides[i]);
    else
      summed.push(loops.sizes[i], {loops.strides[i][0]});
  }
  const int64_t terms = summed.elements(), step = summed.inner()[0];
  const auto [step_from, step_to] = kept.inner();
  kept.parallel([&](const auto& offsets, int64_t n) {
    for (int64_t k = 0; k < n; ++k) {
      double total = 0, values[block];
      summed.walk(0, terms, [&](const auto& offset, int64_t run) {
        for (int64_t i = 0; i < run; i += block) {
          const int64_t count = std::min(block, run - i);
          read_block(from, offsets[0] + k * step_from + offset[0] + i * step, step, count, values);
          for (int64_t j = 0; j < count; ++j) total += values[j];
        }
      });
      write_block(&total, to, offsets[1] + k * step_to, 0, 1, write);
    }
  });
}

constexpr int64_t dot_block = 65536;
int64_t blocks_of(const In& x) { return (x.shape.elements() + dot_block - 1) / dot_block; }

typedef double Doubles __attribute__((vector_size(lanes * 8)));

/// Four sums side by side: one alone would wait for its own additions.
template <class A, class B>
double dot_of(const A* a, const B* b, int64_t n) {
  constexpr int chains = 4;
  Doubles sums[chains]{};
  const auto add = [](Doubles& sum, Floats x, Floats y) {
    sum += __builtin_convertvector(x, Doubles) * __builtin_convertvector(y, Doubles);
  };
  int64_t i = 0;
  for (; i + chains * lanes <= n; i += chains * lanes)
    for (int c = 0; c < chains; ++c) add(sums[c], load(a + i + c * lanes), load(b + i + c * lanes));
  by_register(i, n,
              [&](int64_t k, auto mover) { add(sums[0], mover.load(a + k), mover.load(b + k)); });
  const Doubles all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  double sum = 0;
  for (int lane = 0; lane < lanes; ++lane) sum += all[lane];
  return sum;
}

}  // namespace

void sum_columns(const float* from, int64_t rows, int64_t columns, const Deposit& to) {
  with_float(to.into.dtype, [&](auto type) {
    with_write(to.write, [&](auto how) {
      columns_of(from, rows, columns, columns, static_cast<decltype(type)*>(to.into.data), how);
    });
  });
}

void sum_to(const kernel::SumTo& args, void*) {
  const auto& [from, to, write] = args;
  const In target = to;
  const Loops<2> loops(from.shape, {&from, &target});
  if (!fast_sum(loops, from, to, write)) general_sum(loops, from, to, write);
}

size_t dot_workspace(const kernel::Dot& args) {
  int64_t blocks = 0;
  for (const In& x : args.a) blocks += blocks_of(x);
  return blocks * sizeof(double);
}

void dot(const kernel::Dot& args, void* workspace) {
  double* sums = static_cast<double*>(workspace);
  const int64_t blocks = parallel_items(
      args.a.size(), dot_block, [&](int64_t i) { return blocks_of(args.a[i]); },
      [&](int64_t item, int64_t first, int64_t last, int64_t before) {
        const In &a = args.a[item], &b = args.b[item];
        with_float(a.dtype, [&](auto of_a) {
          with_float(b.dtype, [&](auto of_b) {
            for (int64_t block = first; block < last; ++block) {
              const int64_t start = block * dot_block;
              sums[before + block] = dot_of(static_cast<const decltype(of_a)*>(a.data) + start,
                                            static_cast<const decltype(of_b)*>(b.data) + start,
                                            std::min(dot_block, a.shape.elements() - start));
            }
          });
        });
      });
  double total = 0;
  for (int64_t b = 0; b < blocks; ++b) total += sums[b];
  *static_cast<double*>(args.result.data) = total;
}

}  // namespace accrue::cpu
