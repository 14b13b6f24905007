#include "accrue/autograd/tape.h"
#include "accrue/nn/functional.h"

namespace accrue {
namespace {

using namespace kernel;

enum Part : int64_t { whole = -1, q, k, v };

// A contiguous x [B, T, C], or a part of qkv [B, T, 3C], as [B, T, H, D].
template <class View>
View heads_of(const View& x, int64_t heads, Part which = whole) {
  const int64_t row = x.shape[2], width = which == whole ? row : row / 3;
  View part;
  if (char* const all = static_cast<char*>(const_cast<void*>(x.data)))
    part.data = all + (which == whole ? 0 : int64_t{which}) * width *
                          static_cast<int64_t>(size_of(x.dtype));
  part.shape = {x.shape[0], x.shape[1], heads, width / heads};
  part.strides = {x.shape[1] * row, row, width / heads, 1};
  part.dtype = x.dtype;
  return part;
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
    const Tensor here = samples_on(qkv.device());
    const In all = qkv.in();
    launch(qkv.device(),
           Attention{heads_of(all, heads, q), heads_of(all, heads, k), heads_of(all, heads, v),
                     heads_of(y.out(), heads), logsum.out(), p, here.in(), key});
    saved = {qkv, y, logsum};
    return y;
  }
  void backward(const Saved& saved, const Tensor& dy, Edge dqkv) const {
    const Deposit d = dqkv.place();
    const Tensor here = samples_on(dy.device());
    const In all = saved[0].in();
    launch(dy.device(), AttentionBackward{heads_of(all, heads, q), heads_of(all, heads, k),
                                          heads_of(all, heads, v), heads_of(saved[1].in(), heads),
                                          saved[2].in(), heads_of(dy.in(), heads),
                                          heads_of(d.into, heads, q), heads_of(d.into, heads, k),
                                          heads_of(d.into, heads, v), d.write, p, here.in(), key});
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
  require(qkv.value().is_contiguous(), "[", name, "] expected a contiguous qkv, got strides ",
          qkv.value().strides(), "; try a copy");
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
            "[attention] expected dimension 0 to be the micro-batch's ", op.samples.elements(),
            " samples, got ", qkv.shape());
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
