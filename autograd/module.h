// Modules are plain structs that list their parts to a Visitor. One walk names, initialises,
// counts, freezes, saves and loads them. A module moves; it never copies, because its parameters do
// not.
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "accrue/core/ordinal.h"
#include "accrue/core/philox.h"
#include "accrue/core/tensor.h"

namespace accrue {

/// Fills a parameter's first numbers, row-major; `key` is made of the seed and the parameter's
/// name, so neither the order of members nor the device changes them.
using Initial = std::function<void(std::span<float> numbers, RandomKey key)>;
Initial normal(double deviation);
Initial uniform(double bound);  // in [−bound, bound)
Initial zeros();
Initial ones();

/// What a parameter is, wherever its module moves.
struct ParameterState {
  std::string name;  // empty until initialize()
  Shape shape;
  Initial initial;
  Tensor master;      // wide(compute): what the optimizer updates
  Tensor copy;        // bf16 and f16 compute only: what operations read
  bool stale = true;  // the copy no longer equals the master
  bool frozen = false;
  DType compute = DType::f32;

  /// The parameter as operations read it: the master, or its copy made once per change.
  /// Throws BadOrder before initialize().
  Tensor working();
  /// To be called by whoever wrote the master. `copy_fresh`: the copy was written with it.
  void changed(bool copy_fresh = false);
};

class Parameter {
 public:
  /// No memory, no numbers until initialize().
  Parameter(Shape shape, Initial initial = normal(0.02))
      : state_(std::make_shared<ParameterState>()) {
    state_->shape = shape;
    state_->initial = std::move(initial);
  }
  Parameter(Parameter&&) = default;
  Parameter& operator=(Parameter&&) = default;

  const std::string& name() const { return state_->name; }
  const Shape& shape() const { return state_->shape; }
  /// The f32 (or f64) numbers that the optimizer updates.
  const Tensor& master() const { return state_->master; }
  const std::shared_ptr<ParameterState>& state() const { return state_; }

 private:
  std::shared_ptr<ParameterState> state_;
};

/// Where random numbers are drawn. Known by its path in the model and the model's seed.
struct RandomSite {
  std::string name;
  Seed seed;
};

/// Walks a module's parts. Concrete: works in a .cpp file, in a local struct, behind type erasure.
class Visitor {
 public:
  struct Actions {
    std::function<void(const std::string&, Parameter&)> parameter = {};
    std::function<void(const std::string&, RandomSite&)> site = {};
    std::function<void(const std::string&, Tensor&)> tensor = {};     // saved, not trained
    std::function<void(const std::string&, int64_t&)> integer = {};   // saved, not trained
    std::function<void(const std::string&, std::string&)> text = {};  // saved, not trained
  };
  explicit Visitor(Actions actions) : actions_(std::move(actions)) {}

  void operator()(std::string_view name, Parameter& part) { call(actions_.parameter, name, part); }
  void operator()(std::string_view name, RandomSite& part) { call(actions_.site, name, part); }
  void operator()(std::string_view name, Tensor& part) { call(actions_.tensor, name, part); }
  void operator()(std::string_view name, int64_t& part) { call(actions_.integer, name, part); }
  void operator()(std::string_view name, std::string& part) { call(actions_.text, name, part); }
  /// A module, or an optional, unique_ptr or vector of parts (a vector's are named by position).
  template <class M>
  void operator()(std::string_view name, M& part);

 private:
  template <class F, class P>
  void call(const F& action, std::string_view name, P& part) {
    if (action) action(prefix_ + std::string(name), part);
  }
  Actions actions_;
  std::string prefix_;  // path of the module being walked, with a dot at its end
};

using ParameterList = std::vector<std::shared_ptr<ParameterState>>;

/// An ordered set of parameters.
struct Parameters {
  ParameterList list;
  /// Those whose whole name matches; `*` stands for any characters.
  Parameters matching(std::string_view pattern) const;
  Parameters except(const Parameters& others) const;
  int64_t elements() const;
  size_t size() const { return list.size(); }
};
/// Whether `name` matches `pattern`; `*` stands for any characters, also none.
bool matches(std::string_view name, std::string_view pattern);

struct Placement {
  Device device;
  DType compute = DType::f32;  // dtype of activations and working copies
};

/// Frozen parameters are constants: they need no gradient and no place in a cycle.
void freeze(const Parameters&);
void unfreeze(const Parameters&);

namespace detail {
void initialize(const std::function<void(Visitor&)>& walk, Placement, Seed);
Parameters parameters(const std::function<void(Visitor&)>& walk);
void assign(const Parameters& to, const Parameters& from);
}  // namespace detail

/// Names all parts by their paths, allocates the parameters and draws their numbers, keyed by seed
/// and name. Throws BadArgument on two parts of one name or a dtype that the device lacks.
template <class M>
void initialize(M& model, Placement placement, Seed seed) {
  detail::initialize([&](Visitor& visitor) { model.visit(visitor); }, placement, seed);
}

/// All parameters of an initialised module, in the order of its visit().
template <class M>
Parameters parameters(const M& model) {
  // visit() lists parts by reference and is not const; nothing is written here.
  return detail::parameters([&](Visitor& visitor) { const_cast<M&>(model).visit(visitor); });
}

/// Copies the numbers of one model into another of the same structure.
template <class M>
void assign(M& to, const M& from) {
  detail::assign(parameters(to), parameters(from));
}

template <class M>
void Visitor::operator()(std::string_view name, M& part) {
  if constexpr (requires { part.visit(*this); }) {
    const std::string before = prefix_;
    prefix_ += std::string(name) + '.';
    part.visit(*this);
    prefix_ = before;
  } else if constexpr (requires { part.begin(), part.size(); }) {
    const std::string before = prefix_;
    prefix_ += std::string(name) + '.';
    int64_t i = 0;
    for (auto& one : part) (*this)(std::to_string(i++), one);
    prefix_ = before;
  } else {  // optional, unique_ptr
    if (part) (*this)(name, *part);
  }
}

}  // namespace accrue
