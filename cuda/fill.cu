// Fill: any dtype and strides.
#include "accrue/cuda/each.cuh"
#include "accrue/cuda/kernels.h"

namespace accrue::cuda {
namespace {

/// The number's bytes in this dtype.
uint64_t bits_of(double value, DType dtype) {
  const auto bits = [](auto number) {
    uint64_t word = 0;
    std::memcpy(&word, &number, sizeof number);
    return word;
  };
  switch (dtype) {
    case DType::f32:
      return bits(static_cast<float>(value));
    case DType::f64:
      return bits(value);
    case DType::bf16:
      return bits(BFloat16(static_cast<float>(value)));
    case DType::f16:
      return bits(Float16(static_cast<float>(value)));
    case DType::i32:
      return bits(static_cast<int32_t>(value));
    case DType::i64:
      return bits(static_cast<int64_t>(value));
    case DType::u8:
      return bits(static_cast<uint8_t>(value));
  }
  return 0;
}

template <class Word>
__global__ void __launch_bounds__(threads)
    fill_kernel(Word* to, const __grid_constant__ Walk<1> walk, uint32_t count, Word value) {
  const uint32_t index = blockIdx.x * threads + threadIdx.x;
  if (index >= count) return;
  int64_t offset[1];
  walk.offsets(index, offset);
  to[offset[0]] = value;
}

/// Dense: vectors of 16 bytes, and what is left at the end.
template <class Word, int V>
__global__ void __launch_bounds__(threads)
    fill_dense_kernel(Word* to, int64_t vectors, int tail, Word value) {
  Words<Word, V> repeated;
  repeated.repeat(value);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * (4 * threads) + threadIdx.x;
#pragma unroll
  for (int u = 0; u < 4; ++u)
    if (first + u * threads < vectors) repeated.store(to + (first + u * threads) * V);
  if (first < tail) to[vectors * V + first] = value;
}

template <class Word>
void fill_words(const Out& out, uint64_t bits) {
  constexpr int V = full_width<Word>;
  const In target = out;
  const Loops<1> loops(out.shape, {&target});
  const int64_t n = loops.elements();
  Word* to = static_cast<Word*>(out.data);
  const Word value = static_cast<Word>(bits);
  if (n == 0) return;
  if (loops.dense() && is_aligned(to, sizeof(Word), V)) {
    const auto blocks = static_cast<uint32_t>(std::max<int64_t>(1, ceil_div(n / V, 4 * threads)));
    fill_dense_kernel<Word, V>
        <<<blocks, threads, 0, stream()>>>(to, n / V, static_cast<int>(n % V), value);
    CUDA_CHECK_LAUNCH(fill_dense_kernel);
    return;
  }
  loops.parts(most_vectors, 1, [&](const Loops<1>& part) {
    const auto count = static_cast<uint32_t>(part.elements());
    fill_kernel<Word><<<static_cast<uint32_t>(ceil_div(count, threads)), threads, 0, stream()>>>(
        to + part.start[0], Walk<1>(part, 1), count, value);
    CUDA_CHECK_LAUNCH(fill_kernel);
  });
}

}  // namespace

void fill(const kernel::Fill& args, void*) {
  const uint64_t bits = bits_of(args.value, args.to.dtype);
  switch (size_of(args.to.dtype)) {
    case 1:
      return fill_words<uint8_t>(args.to, bits);
    case 2:
      return fill_words<uint16_t>(args.to, bits);
    case 4:
      return fill_words<uint32_t>(args.to, bits);
    default:
      return fill_words<uint64_t>(args.to, bits);
  }
}

}  // namespace accrue::cuda
