// Cycle: the K micro-batches that end in one optimizer step. It owns the GradBuffers, the counts,
// Step and CycleIndex.
//
//   idle ──begin──▶ inside ──backward──▶ edge ──begin──▶ … ──close──▶ closed ──step──▶ idle
//
// At an edge the state is whole: it can be saved, and the cycle can be resumed from there. An
// exception inside a micro-batch before its backward leaves the cycle at the edge before it; one
// inside backward breaks it, and only discard() is legal then.
#pragma once
#include <concepts>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "accrue/autograd/closed_cycle.h"
#include "accrue/autograd/micro_loss.h"
#include "accrue/autograd/tape.h"

namespace accrue {

/// Any struct that knows its samples' global indices, one for each row, and can be cut.
template <class B>
concept Batch = requires(const B& b, int64_t i) {
  { b.samples() } -> std::convertible_to<std::span<const int64_t>>;
  { b.slice(i, i) } -> std::same_as<B>;
};
template <class F, class B>
concept LossOf = requires(F f, const B& b) {
  { f(b) } -> std::same_as<Loss>;
};

struct MicroSize {
  int64_t samples;
};

/// Inside: training, operations are recorded. Outside: evaluation.
class [[nodiscard]] MicroScope {
 public:
  MicroScope(MicroScope&&) = delete;
  ~MicroScope();
  /// Deposits the gradients of the loss, adds it and its count to the cycle's totals, and ends the
  /// micro-batch. Once. Throws BadOrder on a second call.
  void backward(const Loss& loss);

 private:
  friend class Cycle;
  MicroScope(std::shared_ptr<CycleState> state, std::span<const int64_t> samples);
  bool current() const;  // false once the cycle was discarded or another scope was opened
  std::shared_ptr<CycleState> state_;
  int64_t ticket_ = 0;
  std::unique_ptr<Tape> tape_;
  TapeScope scope_;
};

class Cycle {
 public:
  /// Allocates the buffers. The parameters must be initialised and not be freed before the cycle.
  explicit Cycle(Parameters parameters, CycleOptions options = {});
  Cycle(Cycle&&) = default;

  /// Runs the closure on every micro-batch of `all`, forward and backward, and closes. Goes on at
  /// the edge where an exception or a checkpoint left the same batch. If the batch has a count(),
  /// that is its declared total and must be what the losses counted. In the tiers `split` and
  /// `ranks` micro-batches are granules, whatever the size asked for.
  template <Batch B, LossOf<B> F>
  ClosedCycle run(const B& all, MicroSize size, F loss) {
    return run(all.samples(), size, declared(all), micro_loss(all, loss));
  }

  /// The micro-batches of `all` that are still to do; the last one may be smaller.
  template <Batch B>
  std::vector<B> split(const B& all, MicroSize size) {
    std::vector<B> result;
    for (const auto& [first, count] : pieces(all.samples(), size, declared(all)))
      result.push_back(all.slice(first, count));
    return result;
  }
  /// Opens the scope of one micro-batch.
  template <Batch B>
  MicroScope begin(const B& micro) {
    return MicroScope(state_, micro.samples());
  }
  /// Ends the cycle, after any micro-batch. Throws BadOrder before the first, inside one, or twice.
  ClosedCycle close();
  /// Forgets the cycle under way; legal always but while its ClosedCycle lives.
  void discard();

  Step step() const;
  CycleIndex index() const;
  MicroStep micro_batches() const;
  /// One for each micro-batch of the cycle under way since it was begun or loaded, or of the last
  /// one. Synchronises.
  std::vector<MicroRecord> records() const;
  /// How run()'s micro-batches were run since the cycle was made.
  GraphUse graphs() const;
  /// Buffers, totals and position: all that a checkpoint at an edge needs. Legal at an edge or
  /// idle.
  void visit(Visitor& part);

 private:
  friend class CycleReplay;  // verify_cycle(): the same micro-batches once more, in f64
  struct Piece {
    int64_t first, count;
  };
  template <class B>
  static int64_t declared(const B& all) {
    if constexpr (requires { all.count(); }) return static_cast<int64_t>(all.count());
    return -1;
  }
  std::vector<Piece> pieces(std::span<const int64_t> samples, MicroSize size, int64_t declared);
  ClosedCycle run(std::span<const int64_t> samples, MicroSize size, int64_t declared,
                  const MicroLoss& loss);
  void run(std::span<const int64_t> samples, std::span<const Piece> todo, const MicroLoss& loss);
  void run_one_by_one(std::span<const int64_t> samples, std::span<const Piece>,
                      const MicroLoss& loss);
  void run_whole(std::span<const int64_t> samples, std::span<const Piece>, const MicroLoss& loss);

  std::shared_ptr<CycleState> state_;
};

}  // namespace accrue
