#include "accrue/autograd/module.h"

#include <algorithm>
#include <set>

#include "accrue/core/kernels.h"

namespace accrue {

Initial normal(double deviation) {
  return [deviation](std::span<float> numbers, RandomKey key) {
    const auto n = static_cast<int64_t>(numbers.size());
#pragma omp parallel for
    for (int64_t quad = 0; quad < (n + 3) / 4; ++quad) {
      const auto bits = key.draw(0, quad);
      for (int pair = 0; pair < 2; ++pair) {
        const auto two = normal_pair(bits[2 * pair], bits[2 * pair + 1]);
        for (int i = 0; i < 2; ++i)
          if (const int64_t at = 4 * quad + 2 * pair + i; at < n)
            numbers[at] = static_cast<float>(deviation * two[i]);
      }
    }
  };
}

Initial uniform(double bound) {
  return [bound](std::span<float> numbers, RandomKey key) {
    for (size_t i = 0; i < numbers.size(); ++i)
      numbers[i] = static_cast<float>(bound * (2 * uniform01(key.draw(0, i / 4)[i % 4]) - 1));
  };
}

Initial zeros() {
  return [](std::span<float> numbers, RandomKey) { std::ranges::fill(numbers, 0.0f); };
}

Initial ones() {
  return [](std::span<float> numbers, RandomKey) { std::ranges::fill(numbers, 1.0f); };
}

Tensor ParameterState::working() {
  require_order(static_cast<bool>(master),
                "[parameter] expected an initialised parameter of shape ", shape, ", got one that ",
                "is not; name it in visit(), then initialize(model, {Device::cpu()}, Seed{1})");
  if (compute == master.dtype()) return master;
  const TagScope tag(Tag::copies);
  // A dry run over a real model leaves the model as it is.
  if (current_mode() != Mode::run && master.in().data)
    return Tensor(shape, compute, master.device());
  if (!copy) {
    copy = Tensor(shape, compute, master.device());
    copy.keep_packs();
  }
  if (stale) {
    launch(master.device(), kernel::Copy{master.in(), copy.out(), Write::set});
    copy.keep_packs().invalidate();
    stale = false;
  }
  return copy;
}

void ParameterState::changed(bool copy_fresh) {
  stale = !copy_fresh || current_mode() != Mode::run;
  for (Tensor* tensor : {&master, &copy})
    if (*tensor) tensor->keep_packs().invalidate();
}

bool matches(std::string_view name, std::string_view pattern) {
  if (pattern.empty()) return name.empty();
  if (pattern[0] == '*') {
    for (size_t skip = 0; skip <= name.size(); ++skip)
      if (matches(name.substr(skip), pattern.substr(1))) return true;
    return false;
  }
  return !name.empty() && name[0] == pattern[0] && matches(name.substr(1), pattern.substr(1));
}

Parameters Parameters::matching(std::string_view pattern) const {
  Parameters result;
  for (const auto& one : list)
    if (matches(one->name, pattern)) result.list.push_back(one);
  return result;
}

Parameters Parameters::except(const Parameters& others) const {
  Parameters result;
  for (const auto& one : list)
    if (std::ranges::find(others.list, one) == others.list.end()) result.list.push_back(one);
  return result;
}

int64_t Parameters::elements() const {
  int64_t sum = 0;
  for (const auto& one : list) sum += one->shape.elements();
  return sum;
}

void freeze(const Parameters& parameters) {
  for (const auto& one : parameters.list) one->frozen = true;
}

void unfreeze(const Parameters& parameters) {
  for (const auto& one : parameters.list) one->frozen = false;
}

namespace detail {
namespace {

void place(ParameterState& state, Placement placement, uint64_t stream) {
  const TagScope tag(Tag::parameters);
  state.compute = placement.compute;
  state.master = Tensor(state.shape, wide(placement.compute), placement.device);
  state.copy = Tensor();
  state.changed();
  if (!state.master.in().data) return;  // a dry run
  std::vector<float> numbers(state.shape.elements());
  state.initial(numbers, {stream, 0});
  if (state.master.dtype() == DType::f32) return state.master.copy_from_host(numbers.data());
  const std::vector<double> wide(numbers.begin(), numbers.end());
  state.master.copy_from_host(wide.data());
}

}  // namespace

void initialize(const std::function<void(Visitor&)>& walk, Placement placement, Seed seed) {
  require(placement.device.backend, "[initialize] expected a device, got none; try Device::cpu()");
  require(placement.device.backend->supports(placement.compute),
          "[initialize] expected a dtype that ", placement.device, " has, got ", placement.compute,
          "; try f32, or Device::reference()");
  std::set<std::string> names;
  auto unique = [&](const std::string& name) {
    require(names.insert(name).second, "[initialize] expected one part of a name, got two named ",
            name, "; look at the model's visit()");
  };
  Visitor visitor({.parameter =
                       [&](const std::string& name, Parameter& part) {
                         unique(name);
                         part.state()->name = name;
                         place(*part.state(), placement, hash_of(seed.value, name));
                       },
                   .site =
                       [&](const std::string& name, RandomSite& part) {
                         unique(name);
                         part = {name, seed};
                       }});
  walk(visitor);
}

Parameters parameters(const std::function<void(Visitor&)>& walk) {
  Parameters result;
  Visitor visitor({.parameter = [&](const std::string&, Parameter& part) {
    result.list.push_back(part.state());
  }});
  walk(visitor);
  return result;
}

void assign(const Parameters& to, const Parameters& from) {
  require(to.size() == from.size(), "[assign] expected models of one structure, got ", to.size(),
          " and ", from.size(), " parameters; make both from one configuration");
  for (size_t i = 0; i < to.size(); ++i) {
    ParameterState &a = *to.list[i], &b = *from.list[i];
    require(a.shape == b.shape, "[assign] expected shape ", a.shape, " for ", a.name, ", got ",
            b.shape);
    require_order(a.master && b.master, "[assign] expected initialised models; call initialize()");
    const Tensor from = b.master.to(a.master.device());
    launch(a.master.device(), kernel::Copy{from.in(), a.master.out(), Write::set});
    a.changed();
  }
}

}  // namespace detail
}  // namespace accrue
