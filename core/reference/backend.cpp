// The table of the `reference` backend.
#include "accrue/core/reference/kernels.h"

namespace accrue {

Device Device::reference() {
  static const Backend backend{"reference", &host_allocator(), is_floating,
                               Kernels{
                                   {nullptr, accrue::reference::matmul},
                                   {nullptr, accrue::reference::copy},
                                   {nullptr, accrue::reference::sum_to},
                                   {nullptr, accrue::reference::fill},
                                   {nullptr, accrue::reference::binary},
                                   {nullptr, accrue::reference::unary},
                                   {nullptr, accrue::reference::unary_backward},
                                   {nullptr, accrue::reference::matmul_unary},
                                   {nullptr, accrue::reference::matmul_unary_backward},
                                   {nullptr, accrue::reference::scale},
                                   {nullptr, accrue::reference::norm},
                                   {nullptr, accrue::reference::norm_backward},
                                   {nullptr, accrue::reference::dropout},
                                   {nullptr, accrue::reference::attention},
                                   {nullptr, accrue::reference::attention_backward},
                                   {nullptr, accrue::reference::rope},
                                   {nullptr, accrue::reference::embedding},
                                   {nullptr, accrue::reference::embedding_backward},
                                   {nullptr, accrue::reference::cross_entropy},
                                   {nullptr, accrue::reference::cross_entropy_backward},
                                   {nullptr, accrue::reference::count_targets},
                                   {nullptr, accrue::reference::squared_error},
                                   {nullptr, accrue::reference::squared_error_backward},
                                   {nullptr, accrue::reference::dot},
                                   {nullptr, accrue::reference::sgd},
                                   {nullptr, accrue::reference::adam},
                                   {nullptr, accrue::reference::map<fold::Add>},
                                   {nullptr, accrue::reference::map<fold::AddTwo>},
                                   {nullptr, accrue::reference::map<fold::AddThree>},
                                   {nullptr, accrue::reference::map<fold::Kahan>},
                                   {nullptr, accrue::reference::map<fold::Average>},
                                   {nullptr, accrue::reference::map<fold::Swap>},
                                   {nullptr, accrue::reference::stochastic_add},
                                   {nullptr, accrue::reference::fixed_point_add},
                               }};
  return {&backend};
}

}  // namespace accrue
