// The table: every kernel and its cases. test_table.cpp says how to add one.
#include <algorithm>
#include <iterator>

#include "kernels/cases.h"

namespace accrue::test {

std::vector<Row> table() {
  using namespace kernel;
  Cases products = matmul_cases();
  std::ranges::move(tile_matmul_cases(), std::back_inserter(products));
  return {
      row<Matmul>(products),
      row<Copy>(copy_cases()),
      row<SumTo>(sum_to_cases()),
      row<Fill>(fill_cases()),
      row<Binary>(binary_cases()),
      row<Unary>(unary_cases()),
      row<UnaryBackward>(unary_backward_cases()),
      row<MatmulUnary>(matmul_unary_cases()),
      row<MatmulUnaryBackward>(matmul_unary_backward_cases()),
      row<Scale>(scale_cases()),
      row<Norm>(norm_cases()),
      row<NormBackward>(norm_backward_cases()),
      row<Dropout>(dropout_cases()),
      row<Attention>(attention_cases()),
      row<AttentionBackward>(attention_backward_cases()),
      row<Rope>(rope_cases()),
      row<Embedding>(embedding_cases()),
      row<EmbeddingBackward>(embedding_backward_cases()),
      row<CrossEntropy>(cross_entropy_cases()),
      row<CrossEntropyBackward>(cross_entropy_backward_cases()),
      row<CountTargets>(count_targets_cases()),
      row<SquaredError>(squared_error_cases()),
      row<SquaredErrorBackward>(squared_error_backward_cases()),
      row<Dot>(dot_cases()),
      row<Sgd>(sgd_cases()),
      row<Adam>(adam_cases()),
      row<Map<fold::Add>>(add_cases()),
      row<Map<fold::AddTwo>>(add_two_cases()),
      row<Map<fold::AddThree>>(add_three_cases()),
      row<Map<fold::Kahan>>(kahan_cases()),
      row<Map<fold::Average>>(average_cases()),
      row<Map<fold::Swap>>(swap_cases()),
      row<StochasticAdd>(stochastic_add_cases()),
      row<FixedPointAdd>(fixed_point_add_cases()),
  };
}

}  // namespace accrue::test
