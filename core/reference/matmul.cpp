// Matrix product, as the formula says it.
#include "accrue/core/reference/elements.h"
#include "accrue/core/reference/kernels.h"

namespace accrue::reference {

void matmul(const kernel::Matmul& args, void*) {
  const Reader a(args.a), b(args.b), bias(args.bias);
  const Writer c(args.c, args.write);
  const int64_t M = args.a.shape[0], K = args.a.shape[1], N = args.b.shape[1];

  for (int64_t m = 0; m < M; ++m)
    for (int64_t n = 0; n < N; ++n) {
      double sum = args.bias ? bias(n) : 0;
      for (int64_t k = 0; k < K; ++k) sum += a(m, k) * b(k, n);
      c.write({m, n}, sum);
    }
}

}  // namespace accrue::reference
