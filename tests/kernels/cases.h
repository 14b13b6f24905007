// The cases of every kernel, by theme. test_table.cpp says how to add one.
#pragma once
#include "kernels/stage.h"

namespace accrue::test {

Cases matmul_cases();
Cases tile_matmul_cases();  // for the blocks of the CPU's matrix tiles
Cases matmul_unary_cases();
Cases matmul_unary_backward_cases();

Cases copy_cases();
Cases fill_cases();
Cases binary_cases();
Cases unary_cases();
Cases unary_backward_cases();
Cases scale_cases();
Cases dropout_cases();

Cases sum_to_cases();
Cases dot_cases();
Cases norm_cases();
Cases norm_backward_cases();

Cases attention_cases();
Cases attention_backward_cases();
Cases rope_cases();
Cases embedding_cases();
Cases embedding_backward_cases();

Cases cross_entropy_cases();
Cases cross_entropy_backward_cases();
Cases count_targets_cases();
Cases squared_error_cases();
Cases squared_error_backward_cases();

Cases sgd_cases();
Cases adam_cases();

Cases add_cases();
Cases add_two_cases();
Cases add_three_cases();
Cases kahan_cases();
Cases average_cases();
Cases swap_cases();
Cases stochastic_add_cases();
Cases fixed_point_add_cases();

/// All of these, one row for each kernel.
std::vector<Row> table();

}  // namespace accrue::test
