// The tensors in each kernel's arguments.
#pragma once
#include <optional>
#include <vector>

#include "accrue/core/kernels.h"

namespace accrue::test {

template <class Act>
void each_of(const Act& act, auto&... tensors) {
  (act(tensors), ...);
}
template <class Act>
void each_place(const Act& act, std::optional<Deposit>& deposit) {
  if (deposit) act(deposit->into);
}

/// for_tensors(args, act) calls act(tensor) for each tensor of the arguments.
template <class Act>
void for_tensors(kernel::Matmul& args, const Act& act) {
  act(args.a), act(args.b), act(args.c), act(args.bias);
}
template <class Act>
void for_tensors(kernel::Attention& args, const Act& act) {
  act(args.q), act(args.k), act(args.v), act(args.y), act(args.logsum), act(args.samples);
}
template <class Act>
void for_tensors(kernel::AttentionBackward& args, const Act& act) {
  act(args.q), act(args.k), act(args.v), act(args.y), act(args.logsum), act(args.dy);
  act(args.dq), act(args.dk), act(args.dv), act(args.samples);
}
template <class Act>
void for_tensors(kernel::Copy& args, const Act& act) {
  each_of(act, args.from, args.to);
}
template <class Act>
void for_tensors(kernel::SumTo& args, const Act& act) {
  each_of(act, args.from, args.to);
}
template <class Act>
void for_tensors(kernel::Fill& args, const Act& act) {
  act(args.to);
}
template <class Act>
void for_tensors(kernel::Binary& args, const Act& act) {
  each_of(act, args.a, args.b, args.y);
}
template <class Act>
void for_tensors(kernel::Unary& args, const Act& act) {
  each_of(act, args.x, args.y);
}
template <class Act>
void for_tensors(kernel::UnaryBackward& args, const Act& act) {
  each_of(act, args.x, args.dy, args.dx.into);
}
template <class Act>
void for_tensors(kernel::MatmulUnary& args, const Act& act) {
  each_of(act, args.a, args.b, args.bias, args.z, args.y);
}
template <class Act>
void for_tensors(kernel::MatmulUnaryBackward& args, const Act& act) {
  each_of(act, args.a, args.b, args.z, args.dz, args.y);
}
template <class Act>
void for_tensors(kernel::Scale& args, const Act& act) {
  each_of(act, args.x, args.factor, args.y);
}
template <class Act>
void for_tensors(kernel::Norm& args, const Act& act) {
  each_of(act, args.x, args.gamma, args.beta, args.y, args.statistics, args.branch, args.sum);
}
template <class Act>
void for_tensors(kernel::NormBackward& args, const Act& act) {
  each_of(act, args.x, args.gamma, args.statistics, args.dy);
  each_place(act, args.dx), each_place(act, args.dgamma), each_place(act, args.dbeta);
}
template <class Act>
void for_tensors(kernel::Dropout& args, const Act& act) {
  each_of(act, args.x, args.samples, args.y);
}
template <class Act>
void for_tensors(kernel::Rope& args, const Act& act) {
  each_of(act, args.x, args.y);
}
template <class Act>
void for_tensors(kernel::Embedding& args, const Act& act) {
  each_of(act, args.table, args.ids, args.y);
}
template <class Act>
void for_tensors(kernel::EmbeddingBackward& args, const Act& act) {
  each_of(act, args.ids, args.dy, args.table.into);
}
template <class Act>
void for_tensors(kernel::CrossEntropy& args, const Act& act) {
  each_of(act, args.logits, args.targets, args.loss, args.logsum);
}
template <class Act>
void for_tensors(kernel::CrossEntropyBackward& args, const Act& act) {
  each_of(act, args.logits, args.targets, args.logsum, args.factor, args.dlogits.into);
}
template <class Act>
void for_tensors(kernel::CountTargets& args, const Act& act) {
  each_of(act, args.targets, args.count);
}
template <class Act>
void for_tensors(kernel::SquaredError& args, const Act& act) {
  each_of(act, args.x, args.target, args.loss);
}
template <class Act>
void for_tensors(kernel::SquaredErrorBackward& args, const Act& act) {
  each_of(act, args.x, args.target, args.factor, args.dx.into);
}
template <class Formula, class Act>
void for_tensors(kernel::Map<Formula>& args, const Act& act) {
  for (Out& out : args.outs) act(out);
  for (In& in : args.ins) act(in);
}
template <class Act>
void for_tensors(kernel::StochasticAdd& args, const Act& act) {
  each_of(act, args.x, args.sum);
}
template <class Act>
void for_tensors(kernel::FixedPointAdd& args, const Act& act) {
  each_of(act, args.x, args.total, args.largest);
}

/// Arguments that may be changed: a copy, with its own lists where there are any.
template <class Args>
struct Own {
  Args args;
  explicit Own(const Args& from) : args(from) {}
  template <class Act>
  void for_each(const Act& act) {
    for_tensors(args, act);
  }
};
template <>
struct Own<kernel::Dot> {
  kernel::Dot args;
  std::vector<In> a, b;
  explicit Own(const kernel::Dot& from)
      : args(from), a(from.a.begin(), from.a.end()), b(from.b.begin(), from.b.end()) {
    args.a = a, args.b = b;
  }
  Own(const Own&) = delete;
  template <class Act>
  void for_each(const Act& act) {
    for (In& in : a) act(in);
    for (In& in : b) act(in);
    act(args.result);
  }
};
template <class Args, class Item>
struct OwnItems {
  Args args;
  std::vector<Item> items;
  explicit OwnItems(const Args& from) : args(from), items(from.items.begin(), from.items.end()) {
    args.items = items;
  }
  OwnItems(const OwnItems&) = delete;
  template <class Act>
  void for_each(const Act& act) {
    for (Item& item : items) {
      each_of(act, item.sum, item.weight, item.copy);
      if constexpr (std::is_same_v<Item, kernel::SgdItem>)
        act(item.velocity);
      else
        each_of(act, item.mean, item.variance);
    }
  }
};
template <>
struct Own<kernel::Sgd> : OwnItems<kernel::Sgd, kernel::SgdItem> {
  using OwnItems::OwnItems;
};
template <>
struct Own<kernel::Adam> : OwnItems<kernel::Adam, kernel::AdamItem> {
  using OwnItems::OwnItems;
};

}  // namespace accrue::test
