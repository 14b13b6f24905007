// The kernel interface, long as it is one table: every kernel is a struct of arguments, and a
// backend says for each how many bytes of workspace it needs and how it runs. Kernels check
// nothing: shapes, dtypes and broadcasting are the business of the operations that call them.
//
// Conventions: R rows, C channels, B samples, T positions, H heads, D = C/H, V vocabulary.
// "x_backward" takes what forward took and saved, and deposits: Write::set overwrites its place,
// Write::add adds to it. All tensors of one call share a dtype except where said; statistics,
// losses and log-sums are wide(dtype); gradients of weights have the dtype of their place.
#pragma once
#include <array>
#include <optional>
#include <span>
#include <tuple>

#include "accrue/core/functors/folds.h"
#include "accrue/core/graph.h"
#include "accrue/core/mode.h"
#include "accrue/core/philox.h"
#include "accrue/core/tensor.h"

namespace accrue {

enum class Write : uint8_t { set, add };

/// A place for a gradient and how to write there. {place} alone does not compile.
struct Deposit {
  Out into;
  Write write;
  Deposit(Out place, Write how) : into(place), write(how) {}
};

namespace kernel {

/// c = a·b + bias, or c += a·b. a [M, K], b [K, N], c [M, N], each row-major or transposed by its
/// strides; bias [N] or absent. c may be wider than a and b (f32 for bf16 or f16) or narrower.
struct Matmul {
  In a, b;
  Out c;
  Write write;
  In bias = {};
};

/// to = from, or to += from: any strides, any dtypes, `from` broadcast to `to`.
struct Copy {
  In from;
  Out to;
  Write write;
};

/// to = or += the sum of `from` over the dimensions that `to` broadcasts along (aligned from the
/// right; to's size 1 or absent). Any dtypes.
struct SumTo {
  In from;
  Out to;
  Write write;
};

/// Every element of `to` becomes `value`. Any dtype, any strides.
struct Fill {
  Out to;
  double value;
};

enum class BinaryFormula : uint8_t { add, multiply };
/// y = a ∘ b, or y += a ∘ b; a and b broadcast to y.
struct Binary {
  BinaryFormula formula;
  In a, b;
  Out y;
  Write write;
};

/// gelu is GPT-2's: x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))). silu is x·sigmoid(x).
enum class UnaryFormula : uint8_t { gelu, silu, relu, tanh };
/// y = f(x), contiguous.
struct Unary {
  UnaryFormula formula;
  In x;
  Out y;
};
/// dx = or += f′(x)·dy, contiguous.
struct UnaryBackward {
  UnaryFormula formula;
  In x, dy;
  Deposit dx;
};

/// z = a·b + bias, y = f(z). a [M, K], b [K, N] as in Matmul; z and y [M, N] contiguous, of a's
/// dtype; bias [N] or absent.
struct MatmulUnary {
  UnaryFormula formula;
  In a, b, bias;
  Out z, y;
};
/// dz = (a·b)·f′(z), y = f(z) once more, with the bits of MatmulUnary. dz, z and y as above.
struct MatmulUnaryBackward {
  UnaryFormula formula;
  In a, b, z;
  Out dz, y;
};

/// y = x·factor, or y += x·factor; the factor is a one-element tensor on the device, or a number.
struct Scale {
  In x;
  In factor;      // absent: 1
  double number;  // multiplies the factor
  Out y;
  Write write;
};

/// LayerNorm: y = (x − μ)·σ⁻¹·gamma + beta over the last dimension, σ² = E(x − μ)² + epsilon.
/// RMSNorm (centered = false): y = x·σ⁻¹·gamma, σ² = E x² + epsilon; beta absent.
/// x, y [R, C]; gamma, beta [C]; statistics [R, 2] = (μ, σ⁻¹), wide. With a branch [R, C], x +
/// branch takes the place of x, and is left in sum [R, C], which may be neither of them.
struct Norm {
  In x, gamma, beta;
  Out y, statistics;
  double epsilon;
  bool centered;
  In branch = {};
  Out sum = {};
};
/// Absent deposits are not needed by anyone. dgamma and dbeta [C] are usually f32.
struct NormBackward {
  In x, gamma, statistics, dy;
  std::optional<Deposit> dx, dgamma, dbeta;
  bool centered;
};

/// Keyed dropout of a [B, …] tensor: y = x·mask/(1 − p), its own backward. Element e of sample s is
/// kept iff uniform01 of draw e%4 of key.draw(samples[s], e/4) ≥ p; e counts row-major in the
/// sample.
struct Dropout {
  In x;
  In samples;  // i64 [B], global indices, on the device
  Out y;
  Write write;
  double p;
  RandomKey key;
};

/// Causal softmax attention per head; the T×T matrix is never stored.
/// y_t = Σ_{s≤t} mask·softmax_s(q_t·k_s/√D)·v_s. q, k, v, y [B, T, H, D], last dimension dense,
/// other strides free; logsum [B, H, T], wide: log Σ_s exp(q_t·k_s/√D). Dropout (p > 0) acts on the
/// softmax; its element number in a sample is (h·T + t)·T + s, keyed as in Dropout.
struct Attention {
  In q, k, v;
  Out y, logsum;
  double p = 0;
  In samples = {};
  RandomKey key = {};
};
struct AttentionBackward {
  In q, k, v, y, logsum, dy;
  Out dq, dk, dv;
  Write write;  // of all three
  double p = 0;
  In samples = {};
  RandomKey key = {};
};

/// Rotary positions (Su et al., arXiv 2104.09864), pairs (i, i + D/2): x [B, T, 3, H, D] holds q,
/// k, v; q and k turn by the angle t·base^(−2i/D), v is copied. `inverse` turns back: its own
/// backward.
struct Rope {
  In x;
  Out y;
  Write write;
  double base;
  bool inverse;
};

/// y[r] = table[ids[r]]. table [V, C], ids i32 [R], y [R, C].
struct Embedding {
  In table, ids;
  Out y;
};
/// table[ids[r]] += dy[r] in the order of r, 16 bits rounded once; Write::set zeroes it all first.
struct EmbeddingBackward {
  In ids, dy;
  Deposit table;
};

/// Softmax cross-entropy. logits [R, V]; targets i32 [R], rows with `ignore` are left out;
/// loss [1] = or += Σ_r (logsum_r − logits[r, targets_r]); logsum [R], wide.
struct CrossEntropy {
  In logits, targets;
  Out loss, logsum;
  Write write;  // of the loss
  int64_t ignore;
};
/// dlogits[r, v] = factor·(exp(logits − logsum_r) − [v = targets_r]); zero in ignored rows.
/// dlogits may be the logits themselves when it is set.
struct CrossEntropyBackward {
  In logits, targets, logsum;
  In factor;  // [1]
  Deposit dlogits;
  int64_t ignore;
};
/// count [1] i64 = number of targets that are not `ignore`. Throws nothing: ids are checked by
/// Loader.
struct CountTargets {
  In targets;
  Out count;
  int64_t ignore;
};

/// loss [1] = Σ (x − target)².
struct SquaredError {
  In x, target;
  Out loss;
};
/// dx = or += factor·2·(x − target).
struct SquaredErrorBackward {
  In x, target;
  In factor;  // [1]
  Deposit dx;
};

/// result f64 [1] = Σ_i Σ a[i]·b[i] over all tensors, in f64, by a fixed tree; a[i] and b[i] have
/// one shape, dtypes may differ. Infinite or NaN where any term is. Squared norm: b = a.
struct Dot {
  std::span<const In> a, b;
  Out result;
};

/// One weight of an optimizer's group. The sum is read, never written; an absent sum is exactly
/// zero. `copy` (absent, or the weight's working copy in bf16 or f16) is refreshed in the same
/// pass.
struct SgdItem {
  In sum;
  Out weight, velocity, copy;
};
/// g = sum·scale + weight_decay·w; u = momentum·u + g; w −= lr·(nesterov ? g + momentum·u : u).
/// velocity is absent where momentum is 0. On the first step u = g; velocities start at zero.
struct Sgd {
  std::span<const SgdItem> items;
  double scale, lr, momentum, weight_decay;
  bool nesterov;
};

struct AdamItem {
  In sum;
  Out weight, mean, variance, copy;
};
/// g = sum·scale (+ weight_decay·w unless decoupled); m = decay1·m + gain1·g; v = decay2·v +
/// gain2·g²; w −= lr·(m/correction1) / (√(v/correction2) + ε), after w −= lr·weight_decay·w where
/// decoupled. Adam: decay_i = βᵢ, gain_i = 1 − βᵢ, correction_i = 1 − βᵢᵗ. An absent weight:
/// moments alone (weight_decay is 0 then). Source: Kingma & Ba, arXiv 1412.6980; Loshchilov &
/// Hutter, arXiv 1711.05101.
struct Adam {
  std::span<const AdamItem> items;
  double scale, lr, decay1, gain1, decay2, gain2, epsilon, weight_decay, correction1, correction2;
  bool decoupled;
};

/// formula(out&…, in…) for every element, outs read and written; computed in f64 where the first
/// out is f64, else in f32. All contiguous, floating, of one number of elements; dtypes may differ.
template <class Formula>
struct Map {
  Formula formula;
  std::array<Out, Formula::outs> outs;
  std::array<In, Formula::ins> ins;
};

/// sum = or += x, added in f32 and rounded to bf16 by fold::round_stochastically with 16 bits of
/// key.draw(0, i/8): the lower half of number (i%8)/2 for even elements i, the upper for odd ones.
/// sum bf16, both contiguous.
struct StochasticAdd {
  In x;
  Out sum;
  Write write;
  RandomKey key;
};

/// total = or += x·factor, rounded to whole numbers by fold::fixed_point_term; wraps where it
/// overflows. largest [1] = or becomes at least max |x|; infinite where an x is not finite. total
/// i64, largest f64, all contiguous. The order of nothing matters.
struct FixedPointAdd {
  In x;
  Out total, largest;
  Write write;  // of both
  double factor;
};

}  // namespace kernel

template <class Args>
struct Kernel {
  size_t (*workspace)(const Args&) = nullptr;  // bytes; null: none
  void (*run)(const Args&, void* workspace) = nullptr;
};

using Kernels = std::tuple<
    Kernel<kernel::Matmul>, Kernel<kernel::Copy>, Kernel<kernel::SumTo>, Kernel<kernel::Fill>,
    Kernel<kernel::Binary>, Kernel<kernel::Unary>, Kernel<kernel::UnaryBackward>,
    Kernel<kernel::MatmulUnary>, Kernel<kernel::MatmulUnaryBackward>, Kernel<kernel::Scale>,
    Kernel<kernel::Norm>, Kernel<kernel::NormBackward>, Kernel<kernel::Dropout>,
    Kernel<kernel::Attention>, Kernel<kernel::AttentionBackward>, Kernel<kernel::Rope>,
    Kernel<kernel::Embedding>, Kernel<kernel::EmbeddingBackward>, Kernel<kernel::CrossEntropy>,
    Kernel<kernel::CrossEntropyBackward>, Kernel<kernel::CountTargets>,
    Kernel<kernel::SquaredError>, Kernel<kernel::SquaredErrorBackward>, Kernel<kernel::Dot>,
    Kernel<kernel::Sgd>, Kernel<kernel::Adam>, Kernel<kernel::Map<fold::Add>>,
    Kernel<kernel::Map<fold::AddTwo>>, Kernel<kernel::Map<fold::AddThree>>,
    Kernel<kernel::Map<fold::Kahan>>, Kernel<kernel::Map<fold::Average>>,
    Kernel<kernel::Map<fold::Swap>>, Kernel<kernel::StochasticAdd>, Kernel<kernel::FixedPointAdd>>;

/// A set of kernels and the memory they work on.
struct Backend {
  const char* name;
  Allocator* memory;
  bool (*supports)(DType);  // as the dtype of activations
  Kernels kernels;
  // Between the host's memory and this one, in the order of what was enqueued before; null where
  // they are the same. to_host waits; from_host may return earlier, but has read the host's bytes.
  void (*to_host)(void* host, const void* device, size_t bytes) = nullptr;
  void (*from_host)(void* device, const void* host, size_t bytes) = nullptr;
  const GraphCalls* graphs = nullptr;
  const RangeCalls* ranges = nullptr;
  /// Into `device`, which must stay until finish().
  std::unique_ptr<Upload> (*upload)(void* device, size_t bytes) = nullptr;
};

/// Open while it lives; nothing where the backend has none, whose `name()` is never made.
class Range {
 public:
  Range(Device device, const auto& name)
      : calls_(device.backend ? device.backend->ranges : nullptr) {
    if (calls_) calls_->begin(name().c_str());
  }
  Range(Device device, const char* name) : Range(device, [=] { return std::string(name); }) {}
  ~Range() {
    if (calls_) calls_->end();
  }
  Range(const Range&) = delete;

 private:
  const RangeCalls* calls_;
};

/// Gets the kernel's workspace and runs it; in a dry run only counts the workspace; on shapes
/// nothing.
template <class Args>
void launch(Device device, const Args& args) {
  const Mode mode = current_mode();
  if (mode == Mode::shapes) return;
  const auto& kernel = std::get<Kernel<Args>>(device.backend->kernels);
  const size_t bytes = kernel.workspace ? kernel.workspace(args) : 0;
  if (bytes == 0) {
    if (mode == Mode::run) kernel.run(args, nullptr);
    return;
  }
  const Storage workspace(device, bytes, Tag::workspace);
  if (mode == Mode::run) kernel.run(args, workspace.data);
}

}  // namespace accrue
