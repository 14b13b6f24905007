// A part's state, as a checkpoint would hold it, to be put into another of its kind.
#pragma once
#include <map>

#include "support.h"

namespace accrue::test {

class Saved {
 public:
  template <class T>
  explicit Saved(T& part) {
    Visitor visitor(
        {.tensor = [&](const std::string& name, Tensor& t) { tensors_[name] = t.to_vector(); },
         .integer = [&](const std::string& name, int64_t& n) { integers_[name] = n; }});
    part.visit(visitor);
  }
  template <class T>
  void into(T& part) const {
    Visitor visitor(
        {.tensor =
             [&](const std::string& name, Tensor& to) {
               const Tensor from =
                   Tensor::of<double>(to.shape(), tensors_.at(name), Device::reference());
               launch(Device::reference(), kernel::Copy{from.in(), to.out(), Write::set});
             },
         .integer = [&](const std::string& name, int64_t& n) { n = integers_.at(name); }});
    part.visit(visitor);
  }

 private:
  std::map<std::string, Numbers> tensors_;
  std::map<std::string, int64_t> integers_;
};

}  // namespace accrue::test
