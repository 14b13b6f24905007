// Binary and Unary: one pass over memory each.
#include <functional>

#include "accrue/core/cpu/dense.h"
#include "accrue/core/cpu/kernels.h"
#include "accrue/core/cpu/matmul_parts.h"
#include "accrue/core/cpu/strided.h"
#include "accrue/core/functors/elementwise.h"

namespace accrue::cpu {
namespace {

using kernel::BinaryFormula;
using kernel::UnaryFormula;

template <class Formula, class T, class How>
void binary_run(const T* a, int64_t step_a, const T* b, int64_t step_b, T* y, int64_t step_y,
                int64_t n, How how) {
  if (step_a == 1 && step_b == 1 && step_y == 1) {
    by_register(0, n, [=](int64_t i, auto mover) {
      put(how, mover, y + i, Formula()(mover.load(a + i), mover.load(b + i)));
    });
  } else if (step_a == 1 && step_b == 0 && step_y == 1) {
    const Floats other = all_of(float(*b));
    by_register(0, n, [=](int64_t i, auto mover) {
      put(how, mover, y + i, Formula()(mover.load(a + i), other));
    });
  } else {
    for (int64_t i = 0; i < n; ++i)
      put(how, y[i * step_y], Formula()(float(a[i * step_a]), float(b[i * step_b])));
  }
}

template <class Formula>
void binary_of(const kernel::Binary& args) {
  const auto& [formula, a, b, y, write] = args;
  const In target = y;
  const Loops<3> loops(y.shape, {&a, &b, &target});
  const auto [step_a, step_b, step_y] = loops.inner();
  if (is_fast(y.dtype) && a.dtype == y.dtype && b.dtype == y.dtype) {
    with_float(y.dtype, [&](auto type) {
      using T = decltype(type);
      with_write(write, [&](auto how) {
        loops.parallel([&](const auto& offsets, int64_t n) {
          binary_run<Formula>(static_cast<const T*>(a.data) + offsets[0], step_a,
                              static_cast<const T*>(b.data) + offsets[1], step_b,
                              static_cast<T*>(y.data) + offsets[2], step_y, n, how);
        });
      });
    });
    return;
  }
  loops.parallel([&](const auto& offsets, int64_t n) {
    double left[block], right[block];
    for (int64_t i = 0; i < n; i += block) {
      const int64_t count = std::min(block, n - i);
      read_block(a, offsets[0] + i * step_a, step_a, count, left);
      read_block(b, offsets[1] + i * step_b, step_b, count, right);
      for (int64_t j = 0; j < count; ++j) left[j] = Formula()(left[j], right[j]);
      write_block(left, y, offsets[2] + i * step_y, step_y, count, write);
    }
  });
}

struct FastMath {
  [[gnu::always_inline]] static Floats exp(Floats x) { return fast_exp(x); }
  [[gnu::always_inline]] static Floats tanh(Floats x) { return fast_tanh(x); }
};

template <class Body>
void with_formula(UnaryFormula formula, const Body& body) {
  switch (formula) {
    case UnaryFormula::gelu:
      return body(functor::Gelu<FastMath>{});
    case UnaryFormula::silu:
      return body(functor::Silu<FastMath>{});
    case UnaryFormula::relu:
      return body(functor::Relu{});
    case UnaryFormula::tanh:
      return body(functor::Tanh<FastMath>{});
  }
}

constexpr int64_t work_of_exp = 4;  // simple operations

}  // namespace

void binary(const kernel::Binary& args, void*) {
  if (args.formula == BinaryFormula::add)
    binary_of<std::plus<>>(args);
  else
    binary_of<std::multiplies<>>(args);
}

void unary(const kernel::Unary& args, void*) {
  with_formula(args.formula, [&](auto f) {
    with_float(args.x.dtype, [&](auto type) {
      const auto* x = static_cast<const decltype(type)*>(args.x.data);
      auto* y = static_cast<decltype(type)*>(args.y.data);
      parallel_rows(args.y.shape.elements(), work_of_exp, [=](int64_t first, int64_t last) {
        by_register(first, last,
                    [=](int64_t i, auto mover) { mover.store(y + i, f.value(mover.load(x + i))); });
      });
    });
  });
}

void unary_backward(const kernel::UnaryBackward& args, void*) {
  with_formula(args.formula, [&](auto f) {
    with_float(args.x.dtype, [&](auto type) {
      with_write(args.dx.write, [&](auto how) {
        const auto* x = static_cast<const decltype(type)*>(args.x.data);
        const auto* dy = static_cast<const decltype(type)*>(args.dy.data);
        auto* dx = static_cast<decltype(type)*>(args.dx.into.data);
        parallel_rows(args.x.shape.elements(), work_of_exp, [=](int64_t first, int64_t last) {
          by_register(first, last, [=](int64_t i, auto mover) {
            put(how, mover, dx + i, f.slope(mover.load(x + i)) * mover.load(dy + i));
          });
        });
      });
    });
  });
}

void activate(const Product& p, int64_t row, int64_t rows, int64_t column, int64_t columns) {
  const Activation& follows = *p.activation;
  with_formula(follows.formula, [&](auto f) {
    with_float(p.args.c.dtype, [&](auto type) {
      using T = decltype(type);
      for (int64_t i = row; i < row + rows; ++i) {
        T* c = static_cast<T*>(p.args.c.data) + i * p.c.ld + column;
        T* y = static_cast<T*>(follows.y.data) + i * p.N + column;
        if (!follows.z) {
          by_register(0, columns, [=](int64_t j, auto mover) {
            mover.store(y + j, f.value(mover.load(c + j)));
          });
          continue;
        }
        const T* from = static_cast<const T*>(follows.z.data) + i * p.N + column;
        // Of the rows that come next only parts are read, which the hardware does not foresee.
        for (int64_t j = 0; j < columns; j += 64 / sizeof(T)) {
          __builtin_prefetch(from + 2 * p.N + j);
          __builtin_prefetch(y + 2 * p.N + j, 1);
        }
        by_register(0, columns, [=](int64_t j, auto mover) {
          const Floats z = mover.load(from + j);
          mover.store(c + j, mover.load(c + j) * f.slope(z));
          mover.store(y + j, f.value(z));
        });
      }
    });
  });
}

}  // namespace accrue::cpu
