// The comparison of two stages.
#include "kernels/stage.h"

#include <cxxabi.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>

namespace accrue::test {
namespace {

double unit_roundoff(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 0x1p-53;
    case DType::f32:
      return 0x1p-24;
    case DType::bf16:
      return 0x1p-8;
    case DType::f16:
      return 0x1p-11;
    default:
      return 0;  // whole numbers are exact
  }
}

bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

double uniform(uint64_t bits) { return 0.25 + 0.75 * static_cast<double>(bits >> 11) * 0x1p-53; }

/// Whether the element lies in a row that a kernel must leave alone.
bool is_spare(int64_t element, const Shape& shape) {
  const int64_t row = shape.elements() / shape[0];
  return element < row || element >= (shape[0] - 1) * row;
}

}  // namespace

inline uint64_t Stage::draw() {
  uint64_t bits = state_ += 0x9e3779b97f4a7c15;
  bits = (bits ^ bits >> 30) * 0xbf58476d1ce4e5b9;
  bits = (bits ^ bits >> 27) * 0x94d049bb133111eb;
  return bits ^ bits >> 31;
}

template <class Number>
Tensor Stage::make(const Shape& shape, DType dtype, const Number& number) {
  if (handed_out_ == drawn_->size()) {
    std::vector<double> values(shape.elements());
    for (double& value : values) value = number();
    const Tensor exact = Tensor::of<double>(shape, values, Device::reference());
    drawn_->emplace_back(shape, dtype, Device::reference());
    accrue::launch(Device::reference(), kernel::Copy{exact.in(), drawn_->back().out(), Write::set});
  }
  const Tensor& drawn = (*drawn_)[handed_out_++];
  require(drawn.shape() == shape && drawn.dtype() == dtype, "[stage] expected another run of ",
          "this case: ", drawn.dtype(), drawn.shape(), ", got ", dtype, shape);
  Tensor own(shape, dtype, Device::reference());
  own.copy_from_host(drawn.in().data);
  return own.to(device_);
}

Tensor Stage::random(const Shape& shape, DType dtype, double scale) {
  return make(shape, dtype, [&] {
    const uint64_t bits = draw();
    return (bits & 1 ? scale : -scale) * uniform(bits);
  });
}

Tensor Stage::positive(const Shape& shape, DType dtype) {
  return make(shape, dtype, [&] { return uniform(draw()); });
}

Tensor Stage::numbers(const Shape& shape, DType dtype, double scale) {
  if (is_floating(dtype)) return random(shape, dtype, scale);
  return make(shape, dtype, [&] { return static_cast<double>(1 + draw() % 90); });
}

Tensor Stage::ids(const Shape& shape, int64_t count, std::optional<int64_t> ignore) {
  int64_t number = 0;
  return make(shape, DType::i32, [&] {
    const auto id = static_cast<int64_t>(draw() % count);
    return ignore && number++ % 3 == 1 ? *ignore : id;
  });
}

Tensor Stage::samples(int64_t count) {
  int64_t number = 0;
  return make({count}, DType::i64, [&] {
    const int64_t far = number++ % 2 ? int64_t{1} << 33 : 0;
    return static_cast<double>(far + static_cast<int64_t>(draw() % 1000));
  });
}

Tensor Stage::out(const Shape& shape, DType dtype, Write write, Bound bound, double scale) {
  Shape padded = shape;
  padded[0] += 2;
  outputs_.push_back({numbers(padded, dtype, scale), bound});
  Tensor view = outputs_.back().base.slice(1, shape[0]);
  const double poison = is_floating(dtype) ? std::numeric_limits<double>::quiet_NaN() : 99;
  if (write == Write::set)  // never by a kernel that is tested
    accrue::launch(Device::reference(), kernel::Fill{view.out(), poison});
  return view;
}

bool Stage::launched(std::type_index kernel) const {
  return std::find(launched_.begin(), launched_.end(), kernel) != launched_.end();
}

std::string name_of(std::type_index kernel) {
  const std::unique_ptr<char, void (*)(void*)> name(
      abi::__cxa_demangle(kernel.name(), nullptr, nullptr, nullptr), std::free);
  return name ? name.get() : kernel.name();
}

std::vector<double> numbers_of(const Tensor& tensor) {
  return tensor.to(Device::reference()).to_vector();
}

std::vector<double> tolerances(const Stage::Output& output, const std::vector<double>& expected) {
  const Bound& bound = output.bound;
  const DType dtype = output.base.dtype();
  const double computed = unit_roundoff(wide(dtype)), stored = unit_roundoff(dtype);

  double largest = 0;  // std::max drops NaN
  for (double value : expected)
    if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
  const double magnitude = bound.magnitude > 0 ? bound.magnitude : largest;
  const double common = is_floating(dtype) ? 6 * std::sqrt(bound.terms) * computed * magnitude +
                                                 bound.roundings * stored * largest
                                           : 0;

  const double subnormal = dtype == DType::f16 ? 0x1p-25 : 0;
  std::vector<double> result;
  for (double value : expected)
    result.push_back(common + 2 * std::max(stored * std::abs(value), subnormal));
  return result;
}

std::string difference(const Stage& expected, const Stage& actual) {
  for (size_t i = 0; i < expected.outputs().size(); ++i) {
    const Stage::Output& output = expected.outputs()[i];
    const Shape& shape = output.base.shape();
    const auto right = numbers_of(output.base), found = numbers_of(actual.outputs()[i].base);
    const auto allowed = tolerances(output, right);
    int64_t wrong = 0, first = -1, worst = -1;
    for (int64_t e = 0; e < static_cast<int64_t>(right.size()); ++e) {
      const double distance = std::abs(right[e] - found[e]);
      if (same(right[e], found[e]) || (!is_spare(e, shape) && distance <= allowed[e])) continue;
      if (wrong++ == 0) first = worst = e;
      if (distance > std::abs(right[worst] - found[worst])) worst = e;
    }
    if (wrong > 0)
      return text("output ", i, " ", output.base.dtype(), shape, " (with its spare rows): ", wrong,
                  " elements differ, the first ", first, ", the worst ", worst, ": expected ",
                  right[worst], ", got ", found[worst], ", allowed ", allowed[worst]);
  }
  return {};
}

double error_in_bounds(const Stage& expected, const Stage& actual) {
  double worst = 0;
  for (size_t i = 0; i < expected.outputs().size(); ++i) {
    const Stage::Output& output = expected.outputs()[i];
    const auto right = numbers_of(output.base), found = numbers_of(actual.outputs()[i].base);
    const auto allowed = tolerances(output, right);
    for (size_t e = 0; e < right.size(); ++e) {
      if (same(right[e], found[e])) continue;
      const double error = std::abs(right[e] - found[e]) / allowed[e];
      const bool judged = std::isfinite(error) && !is_spare(e, output.base.shape());
      worst = std::max(worst, judged ? error : std::numeric_limits<double>::infinity());
    }
  }
  return worst;
}

bool same_bits(const Stage& once, const Stage& twice) {
  const auto bytes_of = [](const Tensor& tensor) {
    std::vector<std::byte> bytes(tensor.bytes());
    tensor.copy_to_host(bytes.data());
    return bytes;
  };
  for (size_t i = 0; i < once.outputs().size(); ++i)
    if (bytes_of(once.outputs()[i].base) != bytes_of(twice.outputs()[i].base)) return false;
  return true;
}

Stage run_case(const Case& test_case, Device device, const Stage* like) {
  Stage stage = like ? Stage(device, *like) : Stage(device, hash_of(0, test_case.name));
  test_case.run(stage);
  return stage;
}

std::string mismatch(const Row& row, const Case& test_case, Device tested,
                     const std::vector<int>& threads) {
  const Stage expected = run_case(test_case, Device::reference());
  if (!expected.launched(row.kernel)) return "the case never launches " + row.name;

  const int before = omp_get_max_threads();
  std::string found;
  std::optional<Stage> first;
  for (int count : threads) {
    omp_set_num_threads(count);
    Stage actual = run_case(test_case, tested, &expected);
    if (!first || !same_bits(*first, actual)) found = difference(expected, actual);
    if (found.empty() && count == threads.back() &&
        !same_bits(actual, run_case(test_case, tested, &expected)))
      found = "other bits when it is run again";
    if (!found.empty()) found = text("with ", count, " threads, ", found);
    if (!found.empty()) break;
    if (!first) first.emplace(std::move(actual));
  }
  omp_set_num_threads(before);
  return found;
}

}  // namespace accrue::test
