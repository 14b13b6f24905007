// Tape: the operations of one micro-batch in the order they were recorded. It can be run at once,
// or recorded on shapes and run later, in parts, freed, and run again.
#pragma once
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "accrue/autograd/var.h"
#include "accrue/core/mode.h"
#include "accrue/core/ordinal.h"

namespace accrue {

struct ParameterState;
class GradBuffer;
struct RandomSite;

enum class Graph { release, keep };

/// Thrown when a cycle operation is recorded on a tape that runs at once.
struct NeedsClosure : BadOrder {
  using BadOrder::BadOrder;
};

class Tape {
 public:
  enum class Run { at_once, again, later };  // again: at once, and kept so that run() can follow
  /// Finds a parameter's GradBuffer, or throws.
  using Buffers = std::function<std::shared_ptr<GradBuffer>(const ParameterState&)>;
  /// `samples`: global indices of the micro-batch, for keyed random numbers. `buffers` may be
  /// empty: then parameters are constants.
  explicit Tape(Run run, std::vector<int64_t> samples = {}, CycleIndex cycle = {},
                Buffers buffers = {});
  ~Tape();
  Tape(const Tape&) = delete;

  static Tape* current();

  /// Runs the rules backwards from `out`, whose gradient is `cotangent`. Graph::keep allows another
  /// backward over the same tape; inner gradients never survive, leaves accumulate.
  void backward(const Var& out, const Tensor& cotangent, Graph graph = Graph::release);

  // What record() does.
  Var append(std::shared_ptr<OperationNode> node, std::span<const Var* const> inputs);
  bool has_buffers() const { return static_cast<bool>(buffers_); }
  auto buffer(const ParameterState& parameter) const { return buffers_(parameter); }

  // Random numbers, keyed by what they are for.
  RandomKey random_key(const RandomSite& site);
  const Tensor& samples(Device device);
  /// These kernels' random numbers read their keys from i64 [B + 1]: samples' indices, cycle's
  /// number.
  void keys_at(const Tensor& keys);
  int64_t sample_count() const { return static_cast<int64_t>(sample_indices_.size()); }

  // Intervals: run at once, forgotten, run again in backward.
  void begin_interval();
  void end_interval() noexcept;

  // A tape that runs later: the whole-cycle schedule drives these.
  enum class Keep { crossing, saved };
  /// Runs operations [first, last). Keep::crossing: for what lies beyond; only values read after
  /// `last` stay. Keep::saved: for the backward that follows; what it saved stays, values do not.
  void run(int32_t first, int32_t last, Keep keep);
  int32_t size() const { return static_cast<int32_t>(nodes_.size()); }
  OperationNode& operator[](int32_t i) const { return *nodes_[i]; }
  /// Runs the rules of [first, last) backwards, once their gradients are in.
  void pull(int32_t first, int32_t last, Graph graph);
  void release();

 private:
  struct Interval {
    int32_t first, last;
  };
  Tensor forward(OperationNode& node, Values inputs);

  Run run_;
  std::vector<int64_t> sample_indices_;
  CycleIndex cycle_;
  Buffers buffers_;
  std::vector<std::shared_ptr<OperationNode>> nodes_;
  std::vector<Interval> intervals_;
  bool in_interval_ = false;
  Tensor samples_;
  const int64_t* cycle_at_ = nullptr;
  std::unordered_map<uint64_t, uint64_t> calls_;  // of each random site in this micro-batch
};

/// Makes a tape the one that record() uses in this thread; none: evaluation.
class TapeScope {
 public:
  explicit TapeScope(Tape* tape);
  ~TapeScope();
  TapeScope(const TapeScope&) = delete;

 private:
  Tape* before_;
};

/// Suspends recording: a teacher model inside a training scope.
struct Evaluation : TapeScope {
  Evaluation() : TapeScope(nullptr) {}
};

/// Records outside of a cycle: gradient checks, input gradients. Parameters are constants.
class Recording {
 public:
  explicit Recording(std::vector<int64_t> samples = {})
      : tape_(Tape::Run::at_once, std::move(samples)), scope_(&tape_) {}

 private:
  Tape tape_;
  TapeScope scope_;
};

/// Backward over the current tape: the engine itself. Throws BadOrder without one.
void backward(const Var& out, const Tensor& cotangent, Graph graph = Graph::release);

}  // namespace accrue
