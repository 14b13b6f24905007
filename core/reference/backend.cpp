// The table of the `reference` backend.
#include "accrue/core/reference/kernels.h"

namespace accrue {

Device Device::reference() {
  using namespace accrue::reference;
  const auto with = []<class Args>(void (*run)(const Args&, void*)) {
    return Kernel<Args>{nullptr, run};
  };
  // In the order of Kernels: the types of the arguments hold it.
  static const Backend table{
      "reference", &host_allocator(), is_floating,
      Kernels(with(matmul), with(copy), with(sum_to), with(fill), with(binary), with(unary),
              with(unary_backward), with(matmul_unary), with(matmul_unary_backward), with(scale),
              with(norm), with(norm_backward), with(dropout), with(attention),
              with(attention_backward), with(rope), with(embedding), with(embedding_backward),
              with(cross_entropy), with(cross_entropy_backward), with(count_targets),
              with(squared_error), with(squared_error_backward), with(dot), with(sgd), with(adam),
              with(map<fold::Add>), with(map<fold::AddTwo>), with(map<fold::AddThree>),
              with(map<fold::Kahan>), with(map<fold::Average>), with(map<fold::Swap>),
              with(stochastic_add), with(fixed_point_add))};
  return {&table};
}

}  // namespace accrue
