// What several test programs share: random tensors, a tiny GPT and its batches, distances between
// numbers.
#pragma once
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "accrue/accrue.h"
#include "messages.h"

namespace accrue::test {

using Numbers = std::vector<double>;

/// Unit roundoffs: half the distance from 1 to the next number.
constexpr double u_f64 = 0x1p-53, u_f32 = 0x1p-24, u_bf16 = 0x1p-8, u_f16 = 0x1p-11;
constexpr double roundoff(DType type) {
  return type == DType::f64   ? u_f64
         : type == DType::f32 ? u_f32
         : type == DType::f16 ? u_f16
                              : u_bf16;
}

/// A backend together with a dtype that it computes in.
struct Where {
  Device device;
  DType dtype;
};
inline Where exact() { return {Device::reference(), DType::f64}; }
inline std::string text_of(const Where& where) { return text(where.device, ' ', where.dtype); }

/// Numbers ± [1/4, 1)·scale: never near zero, so that a missing term shows.
inline Numbers random_numbers(int64_t count, uint64_t seed, double scale = 1) {
  std::mt19937_64 bits(seed);
  Numbers numbers(static_cast<size_t>(count));
  for (double& one : numbers) {
    const double size = 0.25 + 0.75 * static_cast<double>(bits() >> 11) * 0x1p-53;
    one = (bits() & 1 ? size : -size) * scale;
  }
  return numbers;
}

/// A tensor with these numbers, rounded to the dtype.
inline Tensor tensor_of(const Shape& shape, const Numbers& numbers, Where where) {
  const Tensor wide = Tensor::of<double>(shape, numbers, Device::reference());
  Tensor result(shape, where.dtype, Device::reference());
  launch(Device::reference(), kernel::Copy{wide.in(), result.out(), Write::set});
  return result.to(where.device);
}

inline Tensor random_tensor(const Shape& shape, Where where, uint64_t seed, double scale = 1) {
  return tensor_of(shape, random_numbers(shape.elements(), seed, scale), where);
}

inline Tensor ids_of(const Shape& shape, const std::vector<int32_t>& ids, Device device) {
  return Tensor::of<int32_t>(shape, ids, device);
}

/// The bits of a tensor's numbers, row-major.
inline std::string bits_of(const Tensor& tensor) {
  std::string bits(tensor.bytes(), '\0');
  tensor.copy_to_host(bits.data());
  return bits;
}

/// The numbers of what a kernel may read on the host; empty if it is absent.
inline Numbers numbers_of(const In& in) {
  if (!in) return {};
  Tensor numbers(in.shape, DType::f64, Device::reference());
  launch(Device::reference(), kernel::Copy{in, numbers.out(), Write::set});
  return numbers.to_vector();
}

inline double norm(const Numbers& numbers) {
  return std::sqrt(std::inner_product(numbers.begin(), numbers.end(), numbers.begin(), 0.0));
}

/// ‖a − b‖ / ‖b‖: rounding errors of single elements that cancel do not count against their own
/// size.
inline double relative_error(const Numbers& a, const Numbers& b) {
  REQUIRE(a.size() == b.size());
  Numbers difference(a.size());
  for (size_t i = 0; i < a.size(); ++i) difference[i] = a[i] - b[i];
  const double off = norm(difference), of = norm(b);
  return off == 0 ? 0 : of == 0 ? INFINITY : off / of;
}

/// The numbers of several tensors, and their largest relative error, tensor by tensor.
using Many = std::vector<Numbers>;
inline double relative_error(const Many& a, const Many& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double error = relative_error(a[i], b[i]);
    if (!(error <= worst)) worst = error;  // a NaN is the worst
  }
  return worst;
}

/// The raw sums of a closed cycle; zeros where nothing was deposited.
inline Many sums_of(const ClosedCycle& closed) {
  Many sums;
  for (const auto& buffer : closed.buffers()) {
    if (buffer->sum())
      sums.push_back(buffer->state("sum").to(Device::reference()).to_vector());
    else
      sums.emplace_back(buffer->parameter_state()->shape.elements(), 0.0);
  }
  return sums;
}

inline Many weights_of(const Parameters& parameters) {
  Many weights;
  for (const auto& one : parameters.list) weights.push_back(one->master.to_vector());
  return weights;
}

inline std::string weight_bits(const Parameters& parameters) {
  std::string bits;
  for (const auto& one : parameters.list) bits += bits_of(one->master);
  return bits;
}

/// An optimizer's or a cycle's own numbers, as it would save them.
template <class T>
std::string state_bits(T& owner) {
  std::string bits;
  Visitor visitor({.tensor = [&](const std::string& name, Tensor& t) { bits += name + bits_of(t); },
                   .integer = [&](const std::string& name, int64_t& n) { bits += text(name, n); }});
  owner.visit(visitor);
  return bits;
}

/// Small enough for naive loops, and yet with everything in it.
inline GptConfig tiny_gpt() {
  return {.layers = 2, .heads = 2, .width = 8, .context = 6, .vocabulary = 11};
}

/// Random sequences. valid[i] targets of sequence i count, the rest is padding; none: all count.
inline TokenBatch token_batch(const GptConfig& config, int64_t count, Device device, uint64_t seed,
                              const std::vector<int64_t>& valid = {}) {
  std::mt19937_64 bits(seed);
  std::vector<int32_t> tokens, targets;
  for (int64_t s = 0; s < count; ++s)
    for (int64_t t = 0; t < config.context; ++t) {
      tokens.push_back(static_cast<int32_t>(bits() % config.vocabulary));
      const bool padding = !valid.empty() && t >= valid[s];
      targets.push_back(padding ? -100 : static_cast<int32_t>(bits() % config.vocabulary));
    }
  const Shape shape{count, config.context};
  TokenBatch batch{ids_of(shape, tokens, device), ids_of(shape, targets, device), {}};
  batch.indices.resize(count);
  std::iota(batch.indices.begin(), batch.indices.end(), int64_t{1000});
  return batch;
}

/// The loss that most tests use: chunks of three rows, so that there are several and a ragged last.
inline auto chunked_loss(const Gpt& model) {
  return [&model](const TokenBatch& micro) {
    return cross_entropy(model.hidden(micro.tokens), model.head(), micro.targets, -100, 5);
  };
}

/// Micro-batches of the given sizes, which need not be equal, through the form by hand.
template <class B, class F>
ClosedCycle run_by_hand(Cycle& cycle, const B& batch, const std::vector<int64_t>& sizes,
                        const F& loss) {
  int64_t first = 0;
  for (int64_t size : sizes) {
    const B micro = batch.slice(first, size);
    first += size;
    MicroScope scope = cycle.begin(micro);
    scope.backward(loss(micro));
  }
  return cycle.close();
}

/// A batch of rows x with targets y, for models that are no language models.
struct Rows {
  Tensor x, y;
  std::vector<int64_t> indices;

  std::span<const int64_t> samples() const { return indices; }
  Rows slice(int64_t first, int64_t count) const {
    const auto begin = indices.begin() + first;
    return {x.slice(first, count), y.slice(first, count), {begin, begin + count}};
  }
};

inline Rows random_rows(int64_t count, int64_t in, int64_t out, Where where, uint64_t seed) {
  Rows rows{
      random_tensor({count, in}, where, seed), random_tensor({count, out}, where, seed + 1), {}};
  rows.indices.resize(count);
  std::iota(rows.indices.begin(), rows.indices.end(), int64_t{0});
  return rows;
}

/// The root of the sources.
inline std::filesystem::path source_root() { return ACCRUE_SOURCE_DIR; }

}  // namespace accrue::test
