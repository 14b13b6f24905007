// Matrix products by dnnl_sgemm, where need be of copies in f32, in the order that it likes, with
// rows that lie where the caches bear them: kept with the weight, or in the workspace.
#include <omp.h>

#include <algorithm>
#include <utility>

#include "accrue/core/cpu/dense.h"
#include "accrue/core/cpu/dispatch.h"
#include "accrue/core/cpu/kernels.h"
#include "accrue/core/cpu/matmul_parts.h"
#include "accrue/core/views.h"

namespace accrue::cpu {
namespace {

constexpr int64_t align = 16;                    // floats in 64 bytes
constexpr int row_grain = 8, column_grain = 48;  // dnnl_sgemm's own tile

int64_t padded(int64_t floats) { return (floats + align - 1) / align * align; }

bool widens(const In& in, const MatrixLayout& layout) {
  return in.dtype != DType::f32 || layout.ld == 0;
}

/// Whether dnnl_sgemm would pack the factors of a part of c. Without AVX-512 it does for large ones
/// only: its threshold from oneDNN 2.6 to 3.7.
bool packs(int64_t rows, int64_t columns) {
  constexpr int avx512 = dnnl_cpu_isa_avx512_core;
  static const bool always = (dnnl_get_effective_cpu_isa() & avx512) == avx512;
  return always || 1.0 / rows + 1.0 / columns < 0.0038;
}

/// How many threads make a band of c each; 1: dnnl_sgemm shares c out. Few threads do best with
/// bands, one fork and no barrier inside, unless only the whole would be packed.
int bands_of(const Product& p, bool columns) {
  constexpr int few = 8;
  const int threads = omp_in_parallel() ? 1 : omp_get_max_threads();
  const bool enough = columns ? p.N >= 2 * column_grain * threads : p.M >= 2 * row_grain * threads;
  const auto packed = [&](int n) { return columns ? packs(p.M, p.N / n) : packs(p.M / n, p.N); };
  return threads <= few && enough && packed(threads) == packed(1) ? threads : 1;
}

/// Rows of b that lie a multiple of 1 KiB apart evict one another from the caches where they are
/// not packed: a copy pays. Kept for the cycle, it would gain little more for as much memory.
bool collides(const Product& p) {
  return !p.b.transposed && p.b.ld % 256 == 0 && p.M >= 64 && p.K * p.N <= 1 << 22 &&
         !packs(p.M / bands_of(p, false), p.N);
}
bool copies_b(const Product& p) { return widens(p.args.b, p.b) || collides(p); }

/// f32 and plain: dnnl_sgemm can write there.
bool direct(const Product& p) { return p.args.c.dtype == DType::f32 && p.c.ld && !p.c.transposed; }

/// From one row of a copy to the next: no multiple of 1 KiB.
int64_t copied_ld(int64_t n) { return n % 256 ? n : n + align; }

int64_t copied_floats(const In& in, const MatrixLayout& layout) {
  return padded(in.shape[layout.transposed] * copied_ld(in.shape[!layout.transposed]));
}

/// Whether a small weight's transpose is kept: dnnl_sgemm would turn b in each product, which fewer
/// rows hardly feel and more repay.
bool turns(const Product& p) {
  constexpr int64_t few_rows = 64, many_rows = 512, large_weight = 1 << 20;
  return p.args.b.packs && p.args.b.dtype == DType::f32 && p.b.transposed && p.M >= few_rows &&
         p.M <= many_rows && p.K * p.N < large_weight;
}

/// The order of b's copy: of b's own memory, so that x·W and dy·Wᵀ share a weight's, unless turned.
MatrixLayout copied_order(const Product& p) { return turns(p) ? MatrixLayout{p.b.ld} : p.b; }

/// The weight b's copy, made once a cycle; null where b is no weight or lies well as it is.
/// No other route's layouts have such names.
Packs::Entry* kept_of(const Product& p) {
  const bool lies = p.args.b.dtype == DType::f32 && !turns(p);
  if (!p.args.b.packs || !p.b.ld || lies) return nullptr;
  const MatrixLayout order = copied_order(p);
  const size_t bytes = copied_floats(p.args.b, order) * sizeof(float);
  return &p.args.b.packs->entry(p.args.b.shape[!order.transposed], bytes, Device::cpu());
}

/// The numbers of `in` as an f32 matrix, transposed where `in` is: both in order of memory.
In copied(const In& in, const MatrixLayout& layout, float* to, bool made = false) {
  const In from = layout.transposed ? transposed(in) : in;
  const Out rows{to, from.shape, {copied_ld(from.shape[1]), 1}, DType::f32};
  if (!made) copy({from, rows, Write::set}, nullptr);
  return layout.transposed ? transposed(rows) : rows;
}

/// Bias and activation of a part, which lies in the cache: put there before, the bias would be
/// written to memory and read again.
void finish_part(const Product& p, int64_t row, int64_t rows, int64_t column, int64_t columns) {
  const auto add_bias = [&]<class T>(T, int64_t i) {
    float* c = static_cast<float*>(p.args.c.data) + i * p.c.ld + column;
    const int64_t step = p.args.bias.strides[0];
    const T* bias = static_cast<const T*>(p.args.bias.data) + column * step;
    if (step == 1)
      by_register(0, columns, [=](int64_t j, auto mover) {
        mover.store(c + j, mover.load(c + j) + mover.load(bias + j));
      });
    else
      for (int64_t j = 0; j < columns; ++j) c[j] += float(bias[j * step]);
  };
  for (int64_t i = row; i < row + rows; ++i) {
    if (p.args.bias) with_float(p.args.bias.dtype, [&](auto type) { add_bias(type, i); });
    if (p.activation) activate(p, i, 1, column, columns);
  }
}

/// A part of c, without its bias, by the calling thread and, outside of parallel regions, its team.
dnnl_status_t gemm(const Product& p, int64_t row, int64_t rows, int64_t column, int64_t columns) {
  const auto* a = static_cast<const float*>(p.args.a.data) + row * (p.a.transposed ? 1 : p.a.ld);
  const auto* b = static_cast<const float*>(p.args.b.data) + column * (p.b.transposed ? p.b.ld : 1);
  auto* c = static_cast<float*>(p.args.c.data) + row * p.c.ld + column;
  return dnnl_sgemm(p.a.transposed ? 'T' : 'N', p.b.transposed ? 'T' : 'N', rows, columns, p.K,
                    1.0f, a, p.a.ld, b, p.b.ld, p.add() ? 1.0f : 0.0f, c, p.c.ld);
}

int64_t share(int64_t total, int64_t grain, int64_t part, int64_t parts) {
  return std::min(total, (total + grain - 1) / grain * part / parts * grain);
}

void finish_rows(const Product& p) {
  if (!p.args.bias && !p.activation) return;
  parallel_rows(p.M, 4 * p.N,  // an exp is some four simple operations
                [&](int64_t first, int64_t last) { finish_part(p, first, last - first, 0, p.N); });
}

/// f32 with plain strides, shared out among the threads.
void sgemm(const Product& p) {
  // A band of rows packs all of b: bands are columns where b must be transposed and is larger.
  const bool columns = p.b.transposed && p.N > p.M;
  const int threads = bands_of(p, columns);
  if (threads == 1) {
    check_dnnl(gemm(p, 0, p.M, 0, p.N), "dnnl_sgemm");
    return finish_rows(p);
  }
  int worst = dnnl_success;
#pragma omp parallel num_threads(threads) reduction(max : worst)
  {
    const int part = omp_get_thread_num(), parts = omp_get_num_threads();
    const int64_t total = columns ? p.N : p.M, grain = columns ? column_grain : row_grain;
    const int64_t first = share(total, grain, part, parts);
    const int64_t count = share(total, grain, part + 1, parts) - first;
    worst = columns ? gemm(p, 0, p.M, first, count) : gemm(p, first, count, 0, p.N);
    columns ? finish_part(p, 0, p.M, first, count) : finish_part(p, first, count, 0, p.N);
  }
  check_dnnl(static_cast<dnnl_status_t>(worst), "dnnl_sgemm");
}

}  // namespace

size_t sgemm_workspace(const Product& p) {
  int64_t floats = direct(p) ? 0 : padded(p.M * p.N);
  if (widens(p.args.a, p.a)) floats += copied_floats(p.args.a, p.a);
  if (!kept_of(p) && copies_b(p)) floats += copied_floats(p.args.b, p.b);
  return floats * sizeof(float);
}

void run_sgemm(const Product& p, void* workspace) {
  float* free = static_cast<float*>(workspace);
  const auto copied_here = [&free](const In& in, const MatrixLayout& layout) {
    return copied(in, layout, std::exchange(free, free + copied_floats(in, layout)));
  };
  kernel::Matmul wide = p.args;
  if (widens(p.args.a, p.a)) wide.a = copied_here(p.args.a, p.a);
  if (Packs::Entry* kept = kept_of(p)) {
    float* place = reinterpret_cast<float*>(kept->data.data<uint8_t>());
    wide.b = copied(p.args.b, copied_order(p), place, std::exchange(kept->valid, true));
  } else if (copies_b(p)) {
    wide.b = copied_here(p.args.b, p.b);
  }
  if (direct(p)) return sgemm(Product(wide, p.activation));
  const Shape& shape = p.args.c.shape;
  wide.c = Out{free, shape, contiguous_strides(shape), DType::f32};
  wide.write = Write::set;
  sgemm(Product(wide));
  copy({wide.c, p.args.c, p.args.write}, nullptr);  // rounds once
}

}  // namespace accrue::cpu
