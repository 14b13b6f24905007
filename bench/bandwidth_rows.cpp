// The kernels that move more than they compute.
#include <set>

#include "kernel_rows.h"
#include "timing.h"

namespace accrue::bench {
namespace {

using namespace kernel;

constexpr int64_t width = 768, vocabulary = 50304;
const RandomKey key{hash_of(7, "bench"), 1};

/// Tensors of the wanted bytes, cut to whole rows.
struct Made {
  KernelSizes sizes;

  int64_t elements(DType dtype) const {
    return (sizes.mib << 20) / static_cast<int64_t>(size_of(dtype));
  }
  int64_t rows(int64_t columns) const {
    return std::max<int64_t>(elements(sizes.dtype) / columns, 1);
  }
  Shape matrix(int64_t columns) const { return {rows(columns), columns}; }
  Tensor random(const Shape& shape) const { return random(shape, sizes.dtype); }
  Tensor random(const Shape& shape, DType dtype) const {
    return random_tensor(shape, dtype, sizes.device);
  }
  /// Squares, for what must not be below zero.
  Tensor positive(const Shape& shape) const {
    Tensor x = random(shape, DType::f32);
    launch(sizes.device, Binary{BinaryFormula::multiply, x.in(), x.in(), x.out(), Write::set});
    return x;
  }
  Tensor samples(int64_t count) const {
    std::vector<int64_t> numbers(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) numbers[i] = i;
    return Tensor::of<int64_t>({count}, numbers, sizes.device);
  }

  template <class Args>
  BandwidthCall call(double bytes, const Args& args, std::vector<Tensor> alive) const {
    return {[device = sizes.device, args, alive = std::move(alive)] { launch(device, args); },
            bytes};
  }
};

double bytes_of(std::initializer_list<Tensor> tensors) {
  double sum = 0;
  for (const Tensor& tensor : tensors) sum += static_cast<double>(tensor.bytes());
  return sum;
}

BandwidthCall norm(const Made& made, bool centered) {
  const Shape shape = made.matrix(width);
  const Tensor x = made.random(shape), gamma = made.random({width}), beta = made.random({width});
  Tensor y = made.random(shape), statistics = made.random({shape[0], 2}, DType::f32);
  return made.call(bytes_of({x, y, statistics}),
                   Norm{x.in(), gamma.in(), centered ? beta.in() : In{}, y.out(), statistics.out(),
                        1e-5, centered},
                   {x, gamma, beta, y, statistics});
}

BandwidthCall add_norm(const Made& made) {
  const Shape shape = made.matrix(width);
  const Tensor x = made.random(shape), gamma = made.random({width}), beta = made.random({width});
  const Tensor branch = made.random(shape);
  Tensor sum = made.random(shape), y = made.random(shape);
  Tensor statistics = made.random({shape[0], 2}, DType::f32);
  return made.call(bytes_of({x, branch, sum, y, statistics}),
                   Norm{x.in(), gamma.in(), beta.in(), y.out(), statistics.out(), 1e-5, true,
                        branch.in(), sum.out()},
                   {x, gamma, beta, branch, sum, y, statistics});
}

BandwidthCall norm_backward(const Made& made, bool centered) {
  const Shape shape = made.matrix(width);
  const Tensor x = made.random(shape), gamma = made.random({width}), beta = made.random({width});
  Tensor y = made.random(shape), statistics = made.random({shape[0], 2}, DType::f32);
  launch(made.sizes.device, Norm{x.in(), gamma.in(), centered ? beta.in() : In{}, y.out(),
                                 statistics.out(), 1e-5, centered});
  const Tensor dy = made.random(shape);
  Tensor dgamma = made.random({width}, DType::f32), dbeta = made.random({width}, DType::f32);
  NormBackward args{x.in(),
                    gamma.in(),
                    statistics.in(),
                    dy.in(),
                    Deposit(y.out(), Write::set),
                    Deposit(dgamma.out(), Write::add),
                    {},
                    centered};
  if (centered) args.dbeta = Deposit(dbeta.out(), Write::add);
  return made.call(bytes_of({x, dy, y, statistics}), args,
                   {x, gamma, y, statistics, dy, dgamma, dbeta});
}

BandwidthCall dropout(const Made& made) {
  const Shape shape{std::max<int64_t>(made.rows(width) / 1024, 1), 1024, width};
  const Tensor x = made.random(shape), samples = made.samples(shape[0]);
  Tensor y = made.random(shape);
  return made.call(bytes_of({x, y}), Dropout{x.in(), samples.in(), y.out(), Write::set, 0.1, key},
                   {x, samples, y});
}

BandwidthCall rope(const Made& made) {
  const Shape shape{std::max<int64_t>(made.rows(3 * width) / 1024, 1), 1024, 3, 12, 64};
  const Tensor x = made.random(shape);
  Tensor y = made.random(shape);
  return made.call(bytes_of({x, y}), Rope{x.in(), y.out(), Write::set, 10000, false}, {x, y});
}

BandwidthCall copy(const Made& made, DType from) {
  const Tensor x = made.random(made.matrix(width), from);
  Tensor y = made.random(x.shape());
  return made.call(bytes_of({x, y}), Copy{x.in(), y.out(), Write::set}, {x, y});
}

BandwidthCall residual_add(const Made& made) {
  const Tensor a = made.random(made.matrix(width)), b = made.random(a.shape());
  Tensor y = made.random(a.shape());
  return made.call(bytes_of({a, b, y}),
                   Binary{BinaryFormula::add, a.in(), b.in(), y.out(), Write::set}, {a, b, y});
}

BandwidthCall bias_gradient(const Made& made) {
  const Tensor x = made.random(made.matrix(width));
  Tensor y = made.random({width}, DType::f32);
  return made.call(bytes_of({x}), SumTo{x.in(), y.out(), Write::add}, {x, y});
}

BandwidthCall unary(const Made& made, UnaryFormula formula) {
  const Tensor x = made.random(made.matrix(width));
  Tensor y = made.random(x.shape());
  return made.call(bytes_of({x, y}), Unary{formula, x.in(), y.out()}, {x, y});
}

BandwidthCall slope(const Made& made, UnaryFormula formula) {
  const Tensor x = made.random(made.matrix(width)), dy = made.random(x.shape());
  Tensor dx = made.random(x.shape());
  return made.call(bytes_of({x, dy, dx}),
                   UnaryBackward{formula, x.in(), dy.in(), {dx.out(), Write::set}}, {x, dy, dx});
}

}  // namespace

std::vector<BandwidthRow> activation_rows(const KernelSizes& sizes) {
  const Made made{sizes};
  return {
      {"copy", [made] { return copy(made, made.sizes.dtype); }},
      {"copy from f32", [made] { return copy(made, DType::f32); }},
      {"residual add", [made] { return residual_add(made); }},
      {"bias gradient", [made] { return bias_gradient(made); }},
      {"gelu", [made] { return unary(made, UnaryFormula::gelu); }},
      {"gelu backward", [made] { return slope(made, UnaryFormula::gelu); }},
      {"silu", [made] { return unary(made, UnaryFormula::silu); }},
      {"silu backward", [made] { return slope(made, UnaryFormula::silu); }},
      {"layer norm", [made] { return norm(made, true); }},
      {"add, layer norm", [made] { return add_norm(made); }},
      {"layer norm backward", [made] { return norm_backward(made, true); }},
      {"rms norm", [made] { return norm(made, false); }},
      {"rms norm backward", [made] { return norm_backward(made, false); }},
      {"dropout", [made] { return dropout(made); }},
      {"rope", [made] { return rope(made); }},
  };
}

std::vector<BandwidthRow> loss_rows(const KernelSizes& sizes) {
  const Made made{sizes};
  // The rows of a table that some ids touch.
  const auto touched = [](const Tensor& ids) {
    const std::vector<double> all = ids.to_vector();
    return static_cast<double>(std::set<double>(all.begin(), all.end()).size());
  };
  const auto cross_entropy = [made](bool backward) {
    const Shape shape = made.matrix(vocabulary);
    Tensor logits = made.random(shape), loss = made.random({1}, DType::f32),
           logsum = made.random({shape[0]}, DType::f32);
    const Tensor targets = random_ids({shape[0]}, vocabulary, made.sizes.device);
    const CrossEntropy forward{logits.in(),  targets.in(), loss.out(),
                               logsum.out(), Write::set,   -100};
    const Tensor factor = Tensor::scalar(1, DType::f32, made.sizes.device);
    const std::vector<Tensor> alive{logits, loss, logsum, targets, factor};
    if (!backward) return made.call(bytes_of({logits}), forward, alive);
    launch(made.sizes.device, forward);
    return made.call(
        2 * bytes_of({logits}),
        CrossEntropyBackward{
            logits.in(), targets.in(), logsum.in(), factor.in(), {logits.out(), Write::set}, -100},
        alive);
  };
  return {
      {"embedding",
       [made, touched] {
         const Tensor table = made.random({vocabulary, width});
         const Tensor ids = random_ids({made.rows(width)}, vocabulary, made.sizes.device);
         Tensor y = made.random(made.matrix(width));
         const double read = touched(ids) * width * static_cast<double>(size_of(y.dtype()));
         return made.call(bytes_of({ids, y}) + read, Embedding{table.in(), ids.in(), y.out()},
                          {table, ids, y});
       }},
      {"embedding backward",
       [made, touched] {
         Tensor table = made.random({vocabulary, width}, DType::f32);
         const Tensor ids = random_ids({made.rows(width)}, vocabulary, made.sizes.device);
         const Tensor dy = made.random(made.matrix(width));
         return made.call(bytes_of({ids, dy}) + touched(ids) * width * 8,
                          EmbeddingBackward{ids.in(), dy.in(), {table.out(), Write::add}},
                          {table, ids, dy});
       }},
      {"cross entropy", [cross_entropy] { return cross_entropy(false); }},
      {"cross entropy backward, in place", [cross_entropy] { return cross_entropy(true); }},
  };
}

namespace {

Tensor weights(const Made& made, DType dtype = DType::f32) {
  return made.random({made.elements(DType::f32)}, dtype);
}

BandwidthCall fold_f32(const Made& made) {
  Tensor sum = weights(made);
  const Tensor x = weights(made, made.sizes.dtype);
  return made.call(bytes_of({sum, sum, x}), Map<fold::Add>{{}, {sum.out()}, {x.in()}}, {sum, x});
}

BandwidthCall fold_kahan(const Made& made) {
  Tensor sum = weights(made), carry = weights(made);
  const Tensor x = weights(made, made.sizes.dtype);
  return made.call(2 * bytes_of({sum, carry}) + bytes_of({x}),
                   Map<fold::Kahan>{{}, {sum.out(), carry.out()}, {x.in()}}, {sum, carry, x});
}

BandwidthCall fold_bf16_stochastic(const Made& made) {
  Tensor sum = weights(made, DType::bf16);
  const Tensor x = weights(made, made.sizes.dtype);
  return made.call(bytes_of({sum, sum, x}), StochasticAdd{x.in(), sum.out(), Write::add, key},
                   {sum, x});
}

BandwidthCall fold_fixed_point(const Made& made) {
  const Device device = made.sizes.device;
  const Tensor x = weights(made, made.sizes.dtype);
  Tensor total(x.shape(), DType::i64, device), largest({1}, DType::f64, device);
  const FixedPointAdd first{x.in(), total.out(), largest.out(), Write::set, 0x1p30};
  launch(device, first);
  FixedPointAdd args = first;
  args.write = Write::add;
  return made.call(2 * bytes_of({total}) + bytes_of({x}), args, {x, total, largest});
}

BandwidthCall average(const Made& made) {
  Tensor mean = weights(made);
  const Tensor x = weights(made);
  return made.call(2 * bytes_of({mean}) + bytes_of({x}),
                   Map<fold::Average>{{0.001}, {mean.out()}, {x.in()}}, {mean, x});
}

BandwidthCall squared_norm(const Made& made) {
  const Tensor x = weights(made);
  Tensor result({1}, DType::f64, made.sizes.device);
  const auto ins = std::make_shared<std::vector<In>>(1, x.in());
  return {[device = made.sizes.device, ins, x, result]() mutable {
            launch(device, Dot{*ins, *ins, result.out()});
          },
          bytes_of({x})};
}

BandwidthCall sgd_momentum(const Made& made) {
  const Tensor sum = weights(made);
  Tensor weight = weights(made), velocity = weights(made), copy = weights(made, DType::bf16);
  const auto items = std::make_shared<std::vector<SgdItem>>(
      1, SgdItem{sum.in(), weight.out(), velocity.out(), copy.out()});
  return {[device = made.sizes.device, items, alive = std::vector{sum, weight, velocity, copy}] {
            launch(device, Sgd{*items, 1, 1e-6, 0.9, 0.1, false});
          },
          bytes_of({sum, weight, weight, velocity, velocity, copy})};
}

BandwidthCall adamw(const Made& made) {
  const Tensor sum = weights(made);
  Tensor weight = weights(made), mean = weights(made), copy = weights(made, DType::bf16);
  Tensor variance = made.positive(sum.shape());
  const auto items = std::make_shared<std::vector<AdamItem>>(
      1, AdamItem{sum.in(), weight.out(), mean.out(), variance.out(), copy.out()});
  return {
      [device = made.sizes.device, items, alive = std::vector{sum, weight, mean, variance, copy}] {
        launch(device, Adam{*items, 1, 1e-6, 0.9, 0.1, 0.95, 0.05, 1e-8, 0.1, 0.5, 0.5, true});
      },
      bytes_of({sum, weight, weight, mean, mean, variance, variance, copy})};
}

}  // namespace

std::vector<BandwidthRow> weight_rows(const KernelSizes& sizes) {
  const Made made{sizes};
  return {
      {"fold f32 += activations", [made] { return fold_f32(made); }},
      {"fold kahan", [made] { return fold_kahan(made); }},
      {"fold bf16, stochastic", [made] { return fold_bf16_stochastic(made); }},
      {"fold fixed point", [made] { return fold_fixed_point(made); }},
      {"average", [made] { return average(made); }},
      {"squared norm", [made] { return squared_norm(made); }},
      {"sgd, momentum", [made] { return sgd_momentum(made); }},
      {"adamw", [made] { return adamw(made); }},
  };
}

}  // namespace accrue::bench
