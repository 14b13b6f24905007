// The table of the `cpu` backend.
#include "accrue/core/cpu/dispatch.h"
#include "accrue/core/cpu/kernels.h"

namespace accrue {

Device Device::cpu() {
  const auto with = []<class Args>(void (*run)(const Args&, void*),
                                   size_t (*workspace)(const Args&) = nullptr) {
    return Kernel<Args>{workspace, run};
  };
  // In the order of Kernels: the types of the arguments hold it.
  static const Backend table{
      "cpu", &host_allocator(), cpu::is_fast,
      Kernels(
          with(cpu::matmul, cpu::matmul_workspace), with(cpu::copy), with(cpu::sum_to),
          with(cpu::fill), with(cpu::binary), with(cpu::unary), with(cpu::unary_backward),
          with(cpu::matmul_unary, cpu::matmul_unary_workspace),
          with(cpu::matmul_unary_backward, cpu::matmul_unary_backward_workspace), with(cpu::scale),
          with(cpu::norm), with(cpu::norm_backward, cpu::norm_backward_workspace),
          with(cpu::dropout), with(cpu::attention, cpu::attention_workspace),
          with(cpu::attention_backward, cpu::attention_backward_workspace), with(cpu::rope),
          with(cpu::embedding), with(cpu::embedding_backward), with(cpu::cross_entropy),
          with(cpu::cross_entropy_backward), with(cpu::count_targets),
          with(cpu::squared_error, cpu::squared_error_workspace), with(cpu::squared_error_backward),
          with(cpu::dot, cpu::dot_workspace), with(cpu::sgd), with(cpu::adam),
          with(cpu::map<fold::Add>), with(cpu::map<fold::AddTwo>), with(cpu::map<fold::AddThree>),
          with(cpu::map<fold::Kahan>), with(cpu::map<fold::Average>), with(cpu::map<fold::Swap>),
          with(cpu::stochastic_add), with(cpu::fixed_point_add))};
  return {&table};
}

}  // namespace accrue
