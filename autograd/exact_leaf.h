// What a replay in f64 puts in place of a tape's leaves. Private to autograd.
#pragma once
#include <algorithm>
#include <cmath>
#include <functional>

#include "accrue/autograd/node.h"
#include "accrue/core/map.h"

namespace accrue {

struct AddDeposit {
  template <class T>
  void operator()(T& sum, T& absolute, T gradient) const {
    sum += gradient;
    absolute += std::abs(gradient);
  }
};

// A parameter in the replay: its numbers, Σ deposit and Σ |deposit|, all f64.
struct Exact {
  Tensor value, sum, absolute;
  int64_t deposits = 0;

  void add(const Tensor& gradient) {
    map(AddDeposit{}, sum.device(), {sum.out(), absolute.out()}, {gradient.in()});
  }
};

// How far the replay is: forward reads every use of a parameter, backward leaves it.
struct Work {
  std::function<void(double)> told;
  bool deposits = true;  // false: only losses are wanted
  int64_t uses = 0;      // of the first micro-batch's tape
  int64_t tapes = 0;
  double runs = 1;  // forward and backward
  double done = 0;

  void advance(double part) {
    if (!told || uses == 0) return;
    done += part / (3 * runs * static_cast<double>(uses * tapes));
    told(std::min(done, 1.0));
  }
};

// One use of a parameter, or of a leaf that the caller made: its gradient is not reported.
struct ExactLeaf final : Node {
  Tensor value, gradient;
  Exact* parameter;
  Work& work;

  ExactLeaf(Tensor numbers, Exact* of, Work& all)
      : value(std::move(numbers)), parameter(of), work(all) {}
  Tensor input() const override {
    work.advance(1);
    return value;
  }
  Deposit place() override {
    if (parameter && work.deposits) ++parameter->deposits;
    const Write write = gradient ? Write::add : Write::set;
    if (!gradient) gradient = empty_like(value);
    return {gradient.out(), write};
  }
  void used() override {
    work.advance(2);  // a backward costs two forwards
    if (gradient && parameter && work.deposits) parameter->add(gradient);
    gradient = Tensor();
  }
};

}  // namespace accrue
