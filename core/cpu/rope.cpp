// Rotary positions: the angles are worked out once per call and shared by all samples and heads.
#include <cmath>
#include <vector>

#include "accrue/core/cpu/dispatch.h"
#include "accrue/core/cpu/kernels.h"

namespace accrue::cpu {
namespace {

struct Turns {
  std::vector<float> cosine, sine;  // [T, D/2]
};

/// Position after position, each angle turns on by its frequency: one sine per frequency, not per
/// entry. In f64 the error grows by 1e-16 a step, far below f32's.
Turns turns_of(int64_t length, int64_t half, double base, bool inverse) {
  Turns turns{std::vector<float>(length * half), std::vector<float>(length * half)};
  std::vector<double> cosine(half, 1.0), sine(half, 0.0), step_cosine(half), step_sine(half);
  for (int64_t i = 0; i < half; ++i) {
    const double frequency = std::pow(base, -static_cast<double>(i) / static_cast<double>(half));
    step_cosine[i] = std::cos(frequency);
    step_sine[i] = inverse ? -std::sin(frequency) : std::sin(frequency);
  }
  for (int64_t t = 0; t < length; ++t)
    for (int64_t i = 0; i < half; ++i) {
      turns.cosine[t * half + i] = static_cast<float>(cosine[i]);
      turns.sine[t * half + i] = static_cast<float>(sine[i]);
      const double turned = cosine[i] * step_cosine[i] - sine[i] * step_sine[i];
      sine[i] = sine[i] * step_cosine[i] + cosine[i] * step_sine[i];
      cosine[i] = turned;
    }
  return turns;
}

template <bool Add, class T>
void turn(const T* x, T* y, const float* cosine, const float* sine, int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = float(x[i]), b = float(x[i + half]);
    const float first = a * cosine[i] - b * sine[i], second = a * sine[i] + b * cosine[i];
    y[i] = T(Add ? float(y[i]) + first : first);
    y[i + half] = T(Add ? float(y[i + half]) + second : second);
  }
}

template <bool Add, class T>
void turn_all(const kernel::Rope& a) {
  const int64_t length = a.x.shape[1], heads = a.x.shape[3], width = a.x.shape[4], half = width / 2;
  const Turns turns = turns_of(length, half, a.base, a.inverse);
  parallel_rows(a.x.shape[0] * length, 3 * heads * width, [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row)
      for (int64_t part = 0; part < 3; ++part)
        for (int64_t h = 0; h < heads; ++h) {
          const int64_t b = row / length, t = row % length;
          const auto at = [&](const Shape& strides) {
            return b * strides[0] + t * strides[1] + part * strides[2] + h * strides[3];
          };
          const T* x = static_cast<const T*>(a.x.data) + at(a.x.strides);
          T* y = static_cast<T*>(a.y.data) + at(a.y.strides);
          if (part < 2)
            turn<Add>(x, y, &turns.cosine[t * half], &turns.sine[t * half], half);
          else
            for (int64_t i = 0; i < width; ++i) y[i] = Add ? T(float(y[i]) + float(x[i])) : x[i];
        }
  });
}

}  // namespace

void rope(const kernel::Rope& a, void*) {
  with_float(a.x.dtype, [&]<class T>(T) {
    a.write == Write::add ? turn_all<true, T>(a) : turn_all<false, T>(a);
  });
}

}  // namespace accrue::cpu
