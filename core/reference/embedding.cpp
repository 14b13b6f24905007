// Embedding by table and by rotation.
#include <cmath>
#include <map>

#include "accrue/core/reference/elements.h"
#include "accrue/core/reference/kernels.h"

namespace accrue::reference {

void embedding(const kernel::Embedding& args, void*) {
  const Reader table(args.table), ids(args.ids);
  const Writer y(args.y, Write::set);
  const int64_t R = args.ids.shape.elements(), C = args.table.shape[1];
  for (int64_t r = 0; r < R; ++r)
    for (int64_t c = 0; c < C; ++c) y.write(r * C + c, table(static_cast<int64_t>(ids[r]), c));
}

void embedding_backward(const kernel::EmbeddingBackward& args, void*) {
  const Reader ids(args.ids), dy(args.dy);
  const Out& place = args.table.into;
  const int64_t R = args.ids.shape.elements(), C = place.shape[1];

  if (args.table.write == Write::set) fill({place, 0}, nullptr);
  const Writer table(place, Write::add);
  if (size_of(place.dtype) < 4) {    // the rows of one id are added up before, and rounded once
    std::map<int64_t, double> sums;  // by place
    for (int64_t i = 0; i < R * C; ++i) sums[static_cast<int64_t>(ids[i / C]) * C + i % C] += dy[i];
    for (const auto& [i, sum] : sums) table.write(i, sum);
    return;
  }
  for (int64_t r = 0; r < R; ++r)
    for (int64_t c = 0; c < C; ++c) table.write({static_cast<int64_t>(ids[r]), c}, dy[r * C + c]);
}

void rope(const kernel::Rope& args, void*) {
  const Reader x(args.x);
  const Writer y(args.y, args.write);
  const Shape& shape = args.x.shape;
  const int64_t B = shape[0], T = shape[1], H = shape[3], D = shape[4];

  const auto turn = [&](int64_t b, int64_t t, int64_t part, int64_t h, int64_t i) {
    const bool value = part == 2;  // v is not turned
    const double angle = value ? 0 : t * std::pow(args.base, -2.0 * i / D);
    const double cosine = std::cos(angle), sine = std::sin(args.inverse ? -angle : angle);
    const double first = x(b, t, part, h, i), second = x(b, t, part, h, i + D / 2);
    y.write({b, t, part, h, i}, first * cosine - second * sine);
    y.write({b, t, part, h, i + D / 2}, first * sine + second * cosine);
  };
  for (int64_t b = 0; b < B; ++b)
    for (int64_t t = 0; t < T; ++t)
      for (int64_t part = 0; part < 3; ++part)
        for (int64_t h = 0; h < H; ++h)
          for (int64_t i = 0; i < D / 2; ++i) turn(b, t, part, h, i);
}

}  // namespace accrue::reference
