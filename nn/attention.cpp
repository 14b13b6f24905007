#include "accrue/autograd/tape.h"
#include "accrue/nn/functional.h"

namespace accrue {
namespace {

using namespace kernel;

// qkv [B, T, 3C] as three views [B, T, H, D].
Tensor part(const Tensor& qkv, int64_t heads, int which) {
  const Shape& s = qkv.shape();
  return qkv.reshape({s[0], s[1], 3, heads, s[2] / 3 / heads}).slice(2, which, 1).squeeze(2);
}

Out part(Out dqkv, const Tensor& like, int which) {
  if (dqkv.data)
    dqkv.data = static_cast<char*>(dqkv.data) + which * dqkv.shape[2] / 3 * size_of(dqkv.dtype);
  dqkv.shape = like.shape();
  dqkv.strides = like.strides();
  return dqkv;
}

Tensor heads_of(const Tensor& y, int64_t heads) {
  const Shape& s = y.shape();
  return y.reshape({s[0], s[1], heads, s[2] / heads});
}

struct AttentionOp {
  int64_t heads;
  double p;
  Tensor samples;
  RandomKey key;

  Tensor forward(Saved& saved, const Tensor& qkv) const {
    const Shape& s = qkv.shape();
    Tensor y({s[0], s[1], s[2] / 3}, qkv.dtype(), qkv.device());
    Tensor logsum({s[0], heads, s[1]}, wide(qkv.dtype()), qkv.device());
    const Tensor q = part(qkv, heads, 0), k = part(qkv, heads, 1), v = part(qkv, heads, 2);
    const Tensor here = samples_on(qkv.device());
    launch(qkv.device(), Attention{q.in(), k.in(), v.in(), heads_of(y, heads).out(), logsum.out(),
                                   p, here.in(), key});
    saved = {qkv, y, logsum};
    return y;
  }
  void backward(const Saved& saved, const Tensor& dy, Edge dqkv) const {
    const Tensor& qkv = saved[0];
    const Tensor q = part(qkv, heads, 0), k = part(qkv, heads, 1), v = part(qkv, heads, 2);
    const Deposit d = dqkv.place();
    const Tensor here = samples_on(dy.device());
    launch(dy.device(),
           AttentionBackward{q.in(), k.in(), v.in(), heads_of(saved[1], heads).in(), saved[2].in(),
                             heads_of(dy, heads).in(), part(d.into, q, 0), part(d.into, k, 1),
                             part(d.into, v, 2), d.write, p, here.in(), key});
  }
  Tensor samples_on(Device device) const { return samples ? samples.to(device) : samples; }
};

struct RopeOp {
  int64_t heads;
  double base;

  Tensor forward(Saved&, const Tensor& x) const {
    Tensor y = empty_like(x);
    const Tensor view = split(x);
    launch(x.device(), Rope{view.in(), split(y).out(), Write::set, base, false});
    return y;
  }
  void backward(const Saved&, const Tensor& dy, Edge dx) const {
    Deposit d = dx.place();
    const Tensor view = split(dy);
    d.into.shape = view.shape();
    d.into.strides = view.strides();
    launch(dy.device(), Rope{view.in(), d.into, d.write, base, true});
  }
  Tensor split(const Tensor& x) const {
    const Shape& s = x.shape();
    return x.reshape({s[0], s[1], 3, heads, s[2] / 3 / heads});
  }
};

void check(const char* name, const Var& qkv, int64_t heads) {
  const Shape& s = qkv.shape();
  require(s.rank == 3 && heads > 0 && s[2] % (3 * heads) == 0, "[", name,
          "] expected qkv [B, T, 3C] with C a multiple of ", heads, " heads, got ", s);
}

}  // namespace

Var causal_attention(const Var& qkv, int64_t heads, double p, const RandomSite& site) {
  check("attention", qkv, heads);
  require(p >= 0 && p < 1, "[attention] expected a dropout probability in [0, 1), got ", p);
  AttentionOp op{heads, 0, {}, {}};
  if (Tape* tape = Tape::current(); tape && p > 0) {
    op.p = p;
    op.samples = tape->samples(qkv.device());
    op.key = tape->random_key(site);
    require(op.samples.elements() == qkv.shape()[0],
            "[attention] expected dimension 0 to be the "
            "micro-batch's ",
            op.samples.elements(), " samples, got ", qkv.shape());
  }
  return record("attention", std::move(op), qkv);
}

Var rope(const Var& qkv, int64_t heads, double base) {
  check("rope", qkv, heads);
  require(qkv.shape()[2] / 3 / heads % 2 == 0, "[rope] expected an even width per head, got ",
          qkv.shape()[2] / 3 / heads);
  return record("rope", RopeOp{heads, base}, qkv);
}

}  // namespace accrue
