#include "accrue/autograd/tape.h"
#include "accrue/nn/functional.h"
#include "accrue/nn/ids.h"

namespace accrue {
namespace {

using namespace kernel;

struct EmbeddingOp {
  Tensor ids;  // [R]
  Shape shape;

  Tensor forward(Saved&, const Tensor& table) const {
    Tensor y(shape, table.dtype(), table.device());
    launch(y.device(), Embedding{table.in(), ids.to(y.device()).in(),
                                 y.reshape({ids.elements(), shape[-1]}).out()});
    return y;
  }
  void backward(const Saved&, const Tensor& dy, Edge dtable) const {
    const Tensor rows = dy.reshape({ids.elements(), shape[-1]});
    launch(dy.device(), EmbeddingBackward{ids.to(dy.device()).in(), rows.in(), dtable.place()});
  }
};

struct DropoutOp {
  double p;
  Tensor samples;
  RandomKey key;

  Tensor forward(Saved&, const Tensor& x) const {
    Tensor y = empty_like(x);
    launch(x.device(), Dropout{by_sample(x).in(), samples.to(x.device()).in(), by_sample(y).out(),
                               Write::set, p, key});
    return y;
  }
  void backward(const Saved&, const Tensor& dy, Edge dx) const {
    Deposit d = dx.place();
    const Tensor flat = by_sample(dy);
    d.into.shape = flat.shape();
    d.into.strides = flat.strides();
    launch(dy.device(), Dropout{flat.in(), samples.to(dy.device()).in(), d.into, d.write, p, key});
  }
  Tensor by_sample(const Tensor& x) const { return x.reshape({samples.elements(), -1}); }
};

}  // namespace

Var embedding(const Var& table, const Tensor& ids) {
  require(table.shape().rank == 2, "[embedding] expected a table [V, C], got ", table.shape());
  require(ids.dtype() == DType::i32, "[embedding] expected ids i32, got ", ids.dtype(),
          "; try int32_t");
  check_ids("embedding", ids, table.shape()[0]);
  Shape shape = ids.shape();
  shape.push_back(table.shape()[1]);
  return record("embedding", EmbeddingOp{ids.reshape({-1}), shape}, table);
}

Var dropout(const Var& x, double p, const RandomSite& site) {
  require(p >= 0 && p < 1, "[dropout] expected a probability in [0, 1), got ", p);
  Tape* tape = Tape::current();
  if (!tape || p == 0) return x;
  const Tensor& samples = tape->samples(x.device());
  require(x.shape().rank > 0 && x.shape()[0] % samples.elements() == 0,
          "[dropout] expected dimension 0 to hold the micro-batch's ", samples.elements(),
          " samples, got ", x.shape());
  return record("dropout", DropoutOp{p, samples, tape->random_key(site)}, x);
}

}  // namespace accrue
