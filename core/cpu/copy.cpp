// Copy, Scale and Fill: any dtypes and strides; dense f32, bf16 and f16 run at the speed of memory.
#include <cstring>

#include "accrue/core/cpu/dense.h"
#include "accrue/core/cpu/kernels.h"
#include "accrue/core/cpu/strided.h"

namespace accrue::cpu {
namespace {

/// The same bits at another place: exact for every dtype of this size.
template <class Word>
void copy_words(const Loops<2>& loops, const In& from, const Out& to) {
  const auto [step_from, step_to] = loops.inner();
  loops.parallel([&](const auto& offsets, int64_t n) {
    const Word* source = static_cast<const Word*>(from.data) + offsets[0];
    Word* target = static_cast<Word*>(to.data) + offsets[1];
    if (step_from == 1 && step_to == 1)
      std::memcpy(target, source, n * sizeof(Word));
    else
      for (int64_t i = 0; i < n; ++i) target[i * step_to] = source[i * step_from];
  });
}

template <class From, class To, class How>
void scale_run(const From* from, int64_t step_from, To* to, int64_t step_to, int64_t n,
               float factor, How how) {
  if (step_from == 1 && step_to == 1) {
    by_register(0, n, [=](int64_t i, auto mover) {
      put(how, mover, to + i, mover.load(from + i) * factor);
    });
  } else {
    for (int64_t i = 0; i < n; ++i) put(how, to[i * step_to], float(from[i * step_from]) * factor);
  }
}

/// to = or += from·factor.
void scale_into(const In& from, double factor, const Out& to, Write write) {
  const In target = to;
  const Loops<2> loops(to.shape, {&from, &target});
  const auto [step_from, step_to] = loops.inner();
  if (is_fast(from.dtype) && is_fast(to.dtype)) {
    with_float(from.dtype, [&](auto source) {
      with_float(to.dtype, [&](auto place) {
        with_write(write, [&](auto how) {
          loops.parallel([&](const auto& offsets, int64_t n) {
            scale_run(static_cast<const decltype(source)*>(from.data) + offsets[0], step_from,
                      static_cast<decltype(place)*>(to.data) + offsets[1], step_to, n,
                      static_cast<float>(factor), how);
          });
        });
      });
    });
    return;
  }
  loops.parallel([&](const auto& offsets, int64_t n) {
    double values[block];
    for (int64_t i = 0; i < n; i += block) {
      const int64_t count = std::min(block, n - i);
      read_block(from, offsets[0] + i * step_from, step_from, count, values);
      for (int64_t j = 0; j < count; ++j) values[j] *= factor;
      write_block(values, to, offsets[1] + i * step_to, step_to, count, write);
    }
  });
}

}  // namespace

void read_block(const In& from, int64_t offset, int64_t stride, int64_t n, double* into) {
  with_any(from.dtype, [&](auto type) {
    const auto* source = static_cast<const decltype(type)*>(from.data) + offset;
    for (int64_t i = 0; i < n; ++i) into[i] = static_cast<double>(source[i * stride]);
  });
}

void write_block(const double* values, const Out& to, int64_t offset, int64_t stride, int64_t n,
                 Write write) {
  with_any(to.dtype, [&](auto type) {
    using T = decltype(type);
    T* target = static_cast<T*>(to.data) + offset;
    for (int64_t i = 0; i < n; ++i) {
      T& place = target[i * stride];
      const double before = write == Write::add ? static_cast<double>(place) : 0;
      place = static_cast<T>(write == Write::add ? before + values[i] : values[i]);
    }
  });
}

void copy(const kernel::Copy& args, void*) {
  const auto& [from, to, write] = args;
  if (from.dtype != to.dtype || write == Write::add) return scale_into(from, 1, to, write);
  const In target = to;
  const Loops<2> loops(to.shape, {&from, &target});
  switch (size_of(to.dtype)) {
    case 1:
      return copy_words<uint8_t>(loops, from, to);
    case 2:
      return copy_words<uint16_t>(loops, from, to);
    case 4:
      return copy_words<uint32_t>(loops, from, to);
    default:
      return copy_words<uint64_t>(loops, from, to);
  }
}

void scale(const kernel::Scale& args, void*) {
  const double factor = args.factor ? number_of(args.factor) * args.number : args.number;
  scale_into(args.x, factor, args.y, args.write);
}

void fill(const kernel::Fill& args, void*) {
  const In target = args.to;
  const Loops<1> loops(args.to.shape, {&target});
  const int64_t step = loops.inner()[0];
  with_any(args.to.dtype, [&](auto type) {
    using T = decltype(type);
    const T value = static_cast<T>(args.value);
    loops.parallel([&](const auto& offsets, int64_t n) {
      T* to = static_cast<T*>(args.to.data) + offsets[0];
      const T local = value;  // the stores might alias the captured one
      if (step == 1)
        for (int64_t i = 0; i < n; ++i) to[i] = local;
      else
        for (int64_t i = 0; i < n; ++i) to[i * step] = local;
    });
  });
}

}  // namespace accrue::cpu
