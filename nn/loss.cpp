#include "accrue/core/views.h"
#include "accrue/nn/functional.h"
#include "accrue/nn/ids.h"

namespace accrue {
namespace {

using namespace kernel;

Tensor count_targets(const Tensor& targets, int64_t ignore) {
  Tensor count({1}, DType::i64, targets.device());
  launch(targets.device(), CountTargets{targets.in(), count.out(), ignore});
  return count;
}

struct CrossEntropyOp {
  Tensor targets;
  int64_t ignore;

  Tensor forward(Saved& saved, const Tensor& logits) const {
    const Tensor rows = logits.reshape({targets.elements(), -1});
    Tensor loss({1}, wide(logits.dtype()), logits.device());
    Tensor logsum({targets.elements()}, wide(logits.dtype()), logits.device());
    launch(logits.device(), CrossEntropy{rows.in(), targets.to(loss.device()).in(), loss.out(),
                                         logsum.out(), Write::set, ignore});
    saved = {rows, logsum};
    return loss;
  }
  void backward(const Saved& saved, const Tensor& dy, Edge dlogits) const {
    Deposit d = dlogits.place();
    d.into = rows(d.into);
    launch(dy.device(), CrossEntropyBackward{saved[0].in(), targets.to(dy.device()).in(),
                                             saved[1].in(), dy.in(), d, ignore});
  }
};

// Logits of one chunk of rows at a time. A single chunk's logits are kept for backward; several are
// computed again, which is what it costs never to have them whole.
struct ChunkedCrossEntropyOp {
  Tensor targets;
  int64_t ignore, chunk;

  int64_t row_count() const { return targets.elements(); }

  Tensor logits(const Tensor& hidden, const Tensor& head, int64_t first, int64_t count) const {
    Tensor result({count, head.shape()[0]}, hidden.dtype(), hidden.device());
    launch(hidden.device(), Matmul{hidden.slice(first, count).in(), head.transpose(0, 1).in(),
                                   result.out(), Write::set});
    return result;
  }
  Tensor forward(Saved& saved, const Tensor& x, const Tensor& head) const {
    const Tensor hidden = x.reshape({row_count(), -1});
    const Tensor ids = targets.to(x.device());
    const DType wider = wide(x.dtype());
    Tensor loss({1}, wider, x.device()), logsum({row_count()}, wider, x.device());
    saved = {hidden, head, logsum};
    for (int64_t first = 0; first < row_count(); first += chunk) {
      const int64_t count = std::min(chunk, row_count() - first);
      const Tensor part = logits(hidden, head, first, count);
      launch(x.device(), CrossEntropy{part.in(), ids.slice(first, count).in(), loss.out(),
                                      logsum.slice(first, count).out(),
                                      first ? Write::add : Write::set, ignore});
      if (count == row_count()) saved.push_back(part);
    }
    return loss;
  }
  void backward(const Saved& saved, const Tensor& dy, Edge dx, Edge dhead) const {
    const Tensor &hidden = saved[0], &head = saved[1], &logsum = saved[2];
    const Tensor ids = targets.to(dy.device());
    std::optional<Deposit> into_x, into_head;
    if (dx) into_x = dx.place(), into_x->into = rows(into_x->into);
    if (dhead) into_head = dhead.place();
    const bool kept = saved.size() > 3, again = kept && saved[3].sharers() > 1;  // of a kept graph
    for (int64_t first = 0; first < row_count(); first += chunk) {
      const int64_t count = std::min(chunk, row_count() - first);
      Tensor part = kept ? saved[3] : logits(hidden, head, first, count);
      Tensor dlogits = again ? empty_like(part) : part;
      launch(dy.device(), CrossEntropyBackward{part.in(), ids.slice(first, count).in(),
                                               logsum.slice(first, count).in(), dy.in(),
                                               Deposit(dlogits.out(), Write::set), ignore});
      if (into_x)
        launch(dy.device(), Matmul{dlogits.in(), head.in(),
                                   accrue::part(into_x->into, first, count), into_x->write});
      if (into_head) {
        launch(dy.device(), Matmul{dlogits.transpose(0, 1).in(), hidden.slice(first, count).in(),
                                   into_head->into, into_head->write});
        into_head->write = Write::add;
      }
    }
  }
};

struct SquaredErrorOp {
  Tensor target;
  Tensor forward(Saved& saved, const Tensor& x) const {
    Tensor loss({1}, wide(x.dtype()), x.device());
    launch(x.device(), SquaredError{x.in(), target.to(x.device()).in(), loss.out()});
    saved = {x};
    return loss;
  }
  void backward(const Saved& saved, const Tensor& dy, Edge dx) const {
    launch(dy.device(),
           SquaredErrorBackward{saved[0].in(), target.to(dy.device()).in(), dy.in(), dx.place()});
  }
};

Tensor flat_targets(const char* what, const Shape& rows, const Tensor& targets) {
  require(targets.dtype() == DType::i32, "[cross_entropy] expected targets i32, got ",
          targets.dtype(), "; try int32_t");
  require(rows.rank > 0 && rows.elements() / std::max<int64_t>(rows[-1], 1) == targets.elements(),
          "[cross_entropy] expected a target for each row of the ", what, " ", rows,
          ", got targets ", targets.shape());
  return targets.reshape({-1});
}

}  // namespace

Loss cross_entropy(const Var& logits, const Tensor& targets, int64_t ignore) {
  const Tensor flat = flat_targets("logits", logits.shape(), targets);
  check_ids("cross_entropy", flat, logits.shape()[-1], ignore);
  return {record("cross_entropy", CrossEntropyOp{flat, ignore}, logits),
          count_targets(flat, ignore)};
}

Loss cross_entropy(const Var& hidden, const Var& head, const Tensor& targets, int64_t ignore,
                   int64_t chunk) {
  const Tensor flat = flat_targets("hidden states", hidden.shape(), targets);
  require(head.shape().rank == 2 && head.shape()[1] == hidden.shape()[-1],
          "[cross_entropy] expected a head [V, ", hidden.shape()[-1], "], got ", head.shape());
  require(head.dtype() == hidden.dtype(), "[cross_entropy] expected one dtype, got ",
          hidden.dtype(), " and ", head.dtype());
  check_ids("cross_entropy", flat, head.shape()[0], ignore);
  require(chunk > 0, "[cross_entropy] expected chunks of at least one row, got ", chunk);
  return {record("cross_entropy", ChunkedCrossEntropyOp{flat, ignore, chunk}, hidden, head),
          count_targets(flat, ignore)};
}

Loss mean_squared_error(const Var& x, const Tensor& target) {
  require(x.shape() == target.shape() && x.dtype() == target.dtype(),
          "[mean_squared_error] expected one shape and dtype, got ", x.dtype(), " ", x.shape(),
          " and ", target.dtype(), " ", target.shape(), "; try a target like the outputs");
  require(x.value().is_contiguous() && target.is_contiguous(),
          "[mean_squared_error] expected contiguous tensors; try a copy");
  return {record("mean_squared_error", SquaredErrorOp{target}, x), x.value().elements()};
}

}  // namespace accrue
