// Runs the cases of the operation table.
#include "autograd/operation.h"

namespace accrue::test {
namespace {

std::vector<int64_t> sample_numbers(int64_t count) {
  std::vector<int64_t> samples;
  for (int64_t i = 0; i < count; ++i) samples.push_back(int64_t{1} << 33 | (5 + 3 * i));
  return samples;
}

// Σ cotangent·value at these inputs: what the central differences differentiate.
double objective(const OperationCase& one, const Many& inputs, const Numbers& cotangent) {
  const Recording scope(sample_numbers(one.samples));  // dropout needs it
  std::vector<Var> in;
  for (size_t i = 0; i < inputs.size(); ++i)
    in.emplace_back(tensor_of(one.inputs[i].shape, inputs[i], exact()));
  const Numbers value = one.run(in, exact()).value().to_vector();
  return std::inner_product(value.begin(), value.end(), cotangent.begin(), 0.0);
}

constexpr uint64_t cotangent_seed = 17;

}  // namespace

Many inputs_of(const OperationCase& one, DType dtype, uint64_t seed) {
  Many inputs;
  for (const OperationInput& input : one.inputs)
    inputs.push_back(
        random_tensor(input.shape, {Device::reference(), dtype}, ++seed, input.scale).to_vector());
  return inputs;
}

OperationResult run_case(const OperationCase& one, const Many& inputs, Where where,
                         const std::vector<bool>& needed, const Many& base) {
  const Recording scope(sample_numbers(one.samples));
  std::vector<Var> in;
  std::vector<Tensor> places;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const OperationInput& input = one.inputs[i];
    const Where place_in{where.device, input.weight ? wide(where.dtype) : where.dtype};
    // A gradient that is set must not see what lay there before.
    const Numbers before = base.empty() ? Numbers(inputs[i].size(), NAN) : base[i];
    places.push_back(tensor_of(input.shape, before, place_in));
    const Tensor data = tensor_of(input.shape, inputs[i], where);
    const Deposit deposit(places[i].out(), base.empty() ? Write::set : Write::add);
    in.push_back(needed[i] ? Var(data, deposit) : Var(data));
  }
  const Var y = one.run(in, where);
  const Numbers cotangent = random_numbers(y.value().elements(), cotangent_seed);
  const Tensor dy = tensor_of(y.shape(), cotangent, {where.device, y.dtype()});
  const std::string dy_before = bits_of(dy);
  backward(y, dy);
  CHECK_MESSAGE(bits_of(dy) == dy_before, "the caller's cotangent was written to");
  OperationResult result{y.value().to_vector(), {}};
  for (const Tensor& place : places) result.gradients.push_back(place.to_vector());
  return result;
}

// A central difference is off by h²·|f‴|/6, and by the rounding of two values over 2h. With
// h = 2⁻¹⁷ ≈ ∛u both are near 4e-11; a hundredfold leaves room for third derivatives and long sums.
double gradient_check(const OperationCase& one, const Many& inputs) {
  constexpr double h = 0x1p-17, allowed = 100 * (h * h + u_f64 / h);
  const OperationResult rule =
      run_case(one, inputs, exact(), std::vector<bool>(inputs.size(), true));
  const Numbers cotangent = random_numbers(static_cast<int64_t>(rule.value.size()), cotangent_seed);
  double size = 1;
  for (double value : rule.value) size = std::max(size, std::abs(value));
  double worst = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    // Every element of the small inputs; of those that are large for the sake of a kernel's tiles,
    // elements at an odd distance: all columns are met where their number is a power of two.
    const size_t distance = inputs[i].size() / 256 | 1;
    for (size_t e = 0; e < inputs[i].size(); e += distance) {
      Many moved = inputs;
      moved[i][e] = inputs[i][e] + h;
      const double above = objective(one, moved, cotangent);
      moved[i][e] = inputs[i][e] - h;
      const double below = objective(one, moved, cotangent);
      const double error = std::abs((above - below) / (2 * h) - rule.gradients[i][e]);
      if (!(error <= worst * allowed * size)) worst = error / (allowed * size);
    }
  }
  return worst;
}

}  // namespace accrue::test
