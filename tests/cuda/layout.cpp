// Index arithmetic of the CUDA kernels, as a kernel would walk it, against plain loops.
#include "accrue/cuda/layout.h"

#include <doctest/doctest.h>

#include <random>
#include <vector>

namespace accrue::test {
namespace {

using namespace accrue::cuda;

struct Operand {
  Shape shape, strides;
};

In view(const Operand& operand) { return {nullptr, operand.shape, operand.strides, DType::f32}; }

/// Offset of the row-major e-th element of `shape` in an operand that broadcasts to it.
int64_t plain_offset(const Shape& shape, const Operand& operand, int64_t e) {
  int64_t offset = 0;
  for (int i = 1; i <= shape.rank; ++i) {
    const int64_t index = e % shape[-i];
    e /= shape[-i];
    if (i <= operand.shape.rank && operand.shape[-i] != 1) offset += index * operand.strides[-i];
  }
  return offset;
}

/// The first case where a kernel of vectors of `width` would go elsewhere than plain loops; −1 if
/// none. Launches are cut to `most` elements.
int64_t first_difference(const Shape& shape, const Operand& a, const Operand& b, int width,
                         int64_t most) {
  const In in_a = view(a), in_b = view(b);
  const Loops<2> loops(shape, {&in_a, &in_b});
  std::vector<std::array<int64_t, 2>> found;
  loops.parts(most, width, [&](const Loops<2>& part) {
    const Walk<2> walk(part, width);
    const auto inner = [&](int k) { return walk.repeated >> k & 1 ? 0 : 1; };
    const int64_t vectors = part.elements() / width;
    for (int64_t v = 0; v < vectors; ++v) {
      int64_t offset[2];
      walk.offsets(static_cast<uint32_t>(v), offset);
      for (int i = 0; i < width; ++i)
        found.push_back(
            {part.start[0] + offset[0] + i * inner(0), part.start[1] + offset[1] + i * inner(1)});
    }
    for (int64_t e = vectors * width; e < part.elements(); ++e)
      found.push_back({part.start[0] + e * inner(0), part.start[1] + e * inner(1)});
  });
  if (static_cast<int64_t>(found.size()) != shape.elements()) return 0;
  for (int64_t e = 0; e < shape.elements(); ++e)
    if (found[e][0] != plain_offset(shape, a, e) || found[e][1] != plain_offset(shape, b, e))
      return e;
  return -1;
}

Operand dense(const Shape& shape) { return {shape, contiguous_strides(shape)}; }

}  // namespace

TEST_CASE("a divider divides every number below 2^31") {
  std::mt19937 random(1);
  std::vector<uint32_t> divisors{1,   2,   3,     5,     7,          255,
                                 256, 257, 50257, 65535, 0x7ffffffe, 0x7fffffff};
  for (int i = 0; i < 500; ++i) divisors.push_back(random() % 0x7fffffff + 1);
  for (uint32_t divisor : divisors) {
    const Divider divider(divisor);
    std::vector<uint32_t> numbers{0, 1, divisor - 1, divisor, 0x7ffffffe, 0x7fffffff};
    for (int i = 0; i < 200; ++i) {
      numbers.push_back(random() & 0x7fffffff);
      const uint64_t multiple = uint64_t{random() % (0x7fffffff / divisor + 1)} * divisor;
      numbers.push_back(static_cast<uint32_t>(multiple));
      if (multiple > 0) numbers.push_back(static_cast<uint32_t>(multiple - 1));
    }
    int wrong = 0;
    for (uint32_t n : numbers) wrong += divider.quotient(n) != n / divisor;
    CHECK_MESSAGE(wrong == 0, divisor);
  }
}

TEST_CASE("a walk visits every element where plain loops do, however a call is cut") {
  const Shape shape{3, 4, 5, 8};
  const Operand all = dense(shape), row{{8}, {1}}, column{{3, 4, 5, 1}, {20, 5, 1, 1}};
  const Operand one{{1}, {1}}, middle{{4, 1, 8}, {8, 8, 1}};
  const Operand turned{{3, 4, 5, 8}, {160, 1, 32, 4}}, padded{{3, 4, 5, 8}, {480, 120, 24, 1}};
  for (const Operand& b : {all, row, column, one, middle, turned, padded})
    for (int64_t most : {int64_t{1} << 30, int64_t{37}, int64_t{8}, int64_t{1}}) {
      CAPTURE(b.shape);
      CAPTURE(most);
      CHECK(first_difference(shape, all, b, 1, most) == -1);
      CHECK(first_difference(shape, b.shape == shape ? b : all, all, 1, most) == -1);
    }
}

TEST_CASE("vectors go where they are allowed, and nowhere else") {
  const Shape shape{6, 5, 8}, odd{6, 35};
  const auto allowed = [](const Shape& whole, const Operand& a, const Operand& b, int width) {
    const In in_a = view(a), in_b = view(b);
    return Loops<2>(whole, {&in_a, &in_b}).allows(width, 1);
  };
  struct Case {
    Shape shape;
    Operand a, b;
    bool allowed;
  };
  const Operand row{{8}, {1}}, column{{6, 5, 1}, {5, 1, 1}}, turned{{6, 5, 8}, {40, 1, 5}};
  const Operand columns_of_wider{{6, 5, 8}, {60, 12, 1}}, odd_rows{{6, 5, 8}, {45, 9, 1}};
  const Case cases[] = {{shape, dense(shape), dense(shape), true},
                        {odd, dense(odd), dense(odd), true},  // one run of 210, with an end
                        {odd, dense(odd), {{1}, {1}}, true},
                        {odd, dense(odd), {{35}, {1}}, false},  // rows of 35
                        {shape, dense(shape), row, true},
                        {shape, dense(shape), column, true},
                        {shape, dense(shape), turned, false},
                        {shape, turned, dense(shape), false},
                        {shape, dense(shape), columns_of_wider, true},
                        {shape, dense(shape), odd_rows, false},
                        {shape, {{6, 5, 8}, {5, 1, 0}}, dense(shape), false}};  // a repeated out
  for (const Case& one : cases) {
    CAPTURE(one.b.strides);
    CHECK(allowed(one.shape, one.a, one.b, 4) == one.allowed);
    if (one.allowed)
      for (int64_t most : {int64_t{1} << 30, int64_t{64}, int64_t{24}})
        CHECK(first_difference(one.shape, one.a, one.b, 4, most) == -1);
  }
}

TEST_CASE("dimensions that lie densely in all operands are joined") {
  const Shape shape{4, 1, 6, 8};
  const In all = view(dense(shape)), row{nullptr, {6, 8}, {8, 1}, DType::f32};
  CHECK(Loops<2>(shape, {&all, &all}).dense());
  const Loops<2> two(shape, {&all, &row});
  CHECK(two.rank == 2);
  CHECK(two.sizes[1] == 48);
  CHECK(two.strides[0][1] == 0);
  CHECK_FALSE(two.dense());
}

TEST_CASE("parts cover more elements than one launch can count, without overlap") {
  // 2^33 elements by arithmetic alone: sizes add up and starts follow each other.
  const Shape shape{int64_t{1} << 20, int64_t{1} << 13};
  const In all = view(dense(shape));
  int64_t next = 0, largest = 0;
  Loops<1>(shape, {&all}).parts(most_vectors, 8, [&](const Loops<1>& part) {
    CHECK(part.start[0] == next);
    CHECK(part.start[0] % 8 == 0);
    next += part.elements();
    largest = std::max(largest, part.elements());
  });
  CHECK(next == shape.elements());
  CHECK(largest <= most_vectors);
}

}  // namespace accrue::test
