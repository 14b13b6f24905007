// Runs one kernel case on two devices with the same numbers and compares what it writes.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <typeindex>
#include <vector>

#include "accrue/core/kernels.h"

namespace accrue::test {

/// How far a right kernel may be from the reference, per element of an output:
///   6·√terms·u·magnitude + 2·v·|expected| + roundings·v·largest
/// First: rounding errors of a sum are as good as random, so n of them stay below λ·√n·u·Σ|terms|
/// with probability 1 − 2·exp(−λ²/2) (Higham & Mary, SIAM J. Sci. Comput. 41, 2019); λ = 6 and u of
/// the dtype computed in (f32; f64 for f64 outputs). Second: both sides round once to the output's
/// dtype, of unit v; below 2⁻¹⁴ f16 rounds to multiples of 2⁻²⁴ instead. Third: what a kernel may
/// round to that dtype on its way.
struct Bound {
  double terms = 1;      // length of the longest chain of roundings
  double magnitude = 0;  // bound of Σ|terms|; 0: the largest expected element
  double roundings = 0;  // relative to the largest expected element
};

/// One run of a case on one device. Two stages of one seed hand out the same numbers.
class Stage {
 public:
  struct Output {
    Tensor base;  // with a row to spare before and behind, which must stay as it is
    Bound bound;
  };
  Stage(Device device, uint64_t seed) : device_(device), state_(seed) {}
  /// Of the same seed as `other`, which has run the same case: its numbers are not drawn again.
  Stage(Device device, const Stage& other) : device_(device), drawn_(other.drawn_) {}

  /// Numbers ± [¼, 1)·scale: never zero, so that a missing term shows.
  Tensor random(const Shape& shape, DType dtype, double scale = 1);
  /// The same, all positive.
  Tensor positive(const Shape& shape, DType dtype);
  /// The same for floating dtypes; whole numbers from 1 to 90 for the others.
  Tensor numbers(const Shape& shape, DType dtype, double scale = 1);
  /// Whole numbers below `count`, as i32. Every third is `ignore` where that is given.
  Tensor ids(const Shape& shape, int64_t count, std::optional<int64_t> ignore = {});
  /// Global sample indices, some beyond 32 bits.
  Tensor samples(int64_t count);

  /// A tensor to be compared, at an odd address. Before the run it holds NaN where the kernel must
  /// set it, random numbers where it adds or updates.
  Tensor out(const Shape& shape, DType dtype, Write write, Bound bound, double scale = 1);

  /// Runs the kernel under test.
  template <class Args>
  void launch(const Args& args) {
    launched_.push_back(typeid(Args));
    accrue::launch(device_, args);
  }

  const std::vector<Output>& outputs() const { return outputs_; }
  bool launched(std::type_index kernel) const;

 private:
  template <class Number>
  Tensor make(const Shape& shape, DType dtype, const Number& number);
  uint64_t draw();  // 64 bits by SplitMix64

  Device device_;
  uint64_t state_ = 0;
  std::shared_ptr<std::vector<Tensor>> drawn_ = std::make_shared<std::vector<Tensor>>();
  size_t handed_out_ = 0;  // of them
  std::vector<Output> outputs_;
  std::vector<std::type_index> launched_;
};

struct Case {
  std::string name;
  std::function<void(Stage&)> run;
};
using Cases = std::vector<Case>;

/// All cases of one kernel.
struct Row {
  std::type_index kernel;
  std::string name;
  Cases cases;
};

/// "accrue::kernel::Matmul", from the type itself.
std::string name_of(std::type_index kernel);

template <class Args>
Row row(Cases cases) {
  return {typeid(Args), name_of(typeid(Args)), std::move(cases)};
}

/// All numbers of a tensor. Read by `reference`, so that no kernel under test touches them.
std::vector<double> numbers_of(const Tensor&);

/// The largest difference that is allowed at each element, given what is expected.
std::vector<double> tolerances(const Stage::Output& output, const std::vector<double>& expected);

/// What is wrong with `actual`, in words; empty if nothing is.
std::string difference(const Stage& expected, const Stage& actual);

/// The largest error in units of what is allowed there: above 1 it is a difference. Infinite where
/// nothing may differ, and does.
double error_in_bounds(const Stage& expected, const Stage& actual);

/// Whether both wrote the same bytes.
bool same_bits(const Stage& once, const Stage& twice);

/// One run of the case, with the same numbers on each device; with those of `like`, another run of
/// it, it takes less time.
Stage run_case(const Case& test_case, Device device, const Stage* like = nullptr);

/// Runs the case on `reference`, and on the tested device with each number of threads: what is
/// wrong there, in words; empty if nothing is. With the last number it runs twice, to the same
/// bits.
std::string mismatch(const Row& row, const Case& test_case, Device tested,
                     const std::vector<int>& threads);

inline const char* name_of(Write write) { return write == Write::set ? "set" : "add"; }
constexpr Write both_writes[] = {Write::set, Write::add};
constexpr DType activation_types[] = {DType::f32, DType::bf16, DType::f16};
constexpr bool is_short(DType type) { return type == DType::bf16 || type == DType::f16; }
/// Odd sizes: below a vector, with tails, and enough for several threads. Sizes that vectors
/// divide, whose outputs lie at their boundaries.
const std::vector<Shape> many_shapes{{1},        {3},         {7, 17}, {33, 65},
                                     {5, 7, 31}, {127, 1023}, {5, 64}, {3, 1040}};

}  // namespace accrue::test
