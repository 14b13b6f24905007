// One row per public operation: inputs, and how to call it. operations.cpp says how to add one.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "support.h"

namespace accrue::test {

struct OperationInput {
  Shape shape;
  bool weight = false;  // its gradient is deposited in wide(dtype), as a GradBuffer is
  double scale = 1;
};

/// One call of an operation. `run` gets a Var for each input and says what comes out; tensors that
/// are no Vars (ids, targets) it makes on `where.device`.
struct OperationCase {
  std::string name;
  std::vector<OperationInput> inputs;
  std::function<Var(std::span<const Var> in, Where where)> run;
  int64_t terms = 16;  // of the longest sum in it, forward or backward
  int64_t samples = 2;
};

/// All cases of one declaration, which is named by its parameters: "gelu(x)".
struct OperationRow {
  std::string declaration;
  std::vector<OperationCase> cases;
};

std::vector<OperationRow> plain_rows();   // operations.h, recompute
std::vector<OperationRow> neural_rows();  // nn/functional.h
std::vector<OperationRow> loss_rows();    // nn/functional.h

/// What a case computes on one machine from inputs that `where` can hold exactly.
struct OperationResult {
  Numbers value;
  Many gradients;  // of Σ cotangent·value, with respect to each input
};

/// Numbers of the inputs, rounded to `dtype`.
Many inputs_of(const OperationCase& one, DType dtype, uint64_t seed);
/// Runs forward and backward. needed[i]: whether input i needs a gradient; others are constants.
/// `base`: numbers that lie in the gradients' places beforehand and are added to; none: set.
OperationResult run_case(const OperationCase& one, const Many& inputs, Where where,
                         const std::vector<bool>& needed, const Many& base = {});

/// The worst difference between the rule's gradients and central differences, over what it may be;
/// above 1: the rule is wrong.
double gradient_check(const OperationCase& one, const Many& inputs);

}  // namespace accrue::test
