// Keyed dropout: lanes × 4 elements of a sample at a time.
#include "accrue/core/cpu/dispatch.h"
#include "accrue/core/cpu/draws.h"
#include "accrue/core/cpu/kernels.h"

namespace accrue::cpu {
namespace {

/// y[i] = or += x[i]·factor for the elements [first, first + count) of a sample; first % 4 = 0.
template <bool Add, class T>
void drop_chunk(const kernel::Dropout& a, int64_t sample, int64_t first, int64_t count, const T* x,
                T* y) {
  uint32_t words[4 * lanes];
  draw_row(a.key, sample, static_cast<uint64_t>(first) / 4, words);
  const Keep keep(a.p);
  float factors[4 * lanes];
  for (int i = 0; i < 4 * lanes; i += lanes)
    store(factors + i, keep(std::bit_cast<Bits>(load(reinterpret_cast<const float*>(words) + i))));
  for (int64_t i = 0; i < count; ++i) {
    const float dropped = float(x[i]) * factors[i];
    y[i] = T(Add ? float(y[i]) + dropped : dropped);
  }
}

template <bool Add, class T>
void drop(const kernel::Dropout& a) {
  constexpr int64_t chunk = 4 * lanes;
  const int64_t batch = a.x.shape[0], size = batch ? a.x.shape.elements() / batch : 0;
  const int64_t chunks = (size + chunk - 1) / chunk;
  parallel_rows(batch * chunks, 4 * chunk, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t b = i / chunks, element = i % chunks * chunk;
      const int64_t at = b * size + element;
      drop_chunk<Add>(a, static_cast<const int64_t*>(a.samples.data)[b], element,
                      size - element < chunk ? size - element : chunk,
                      static_cast<const T*>(a.x.data) + at, static_cast<T*>(a.y.data) + at);
    }
  });
}

}  // namespace

void dropout(const kernel::Dropout& a, void*) {
  with_float(a.x.dtype,
             [&]<class T>(T) { a.write == Write::add ? drop<true, T>(a) : drop<false, T>(a); });
}

}  // namespace accrue::cpu
