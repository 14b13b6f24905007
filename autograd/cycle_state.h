// What a Cycle, its scopes and its ClosedCycle share. Private to autograd.
#pragma once
#include <array>
#include <optional>
#include <unordered_map>

#include "accrue/autograd/cycle.h"
#include "accrue/autograd/graph_cache.h"
#include "accrue/autograd/records.h"

namespace accrue {

struct CycleState {
  enum class Phase : uint8_t { idle, edge, inside, broken, closed };

  CycleOptions options;
  std::vector<std::shared_ptr<GradBuffer>> buffers;  // shared: a Var may outlive the cycle
  std::unordered_map<const ParameterState*, size_t> buffer_of;  // its place among them
  Device device;
  Tensor totals;         // f64 [2] on the device: Σ loss, Σ count
  Tensor cotangent;      // [1] on the device: what a loss is multiplied with
  double scaled_by = 0;  // the number in it
  Tensor prefix;         // f64 [2]: the first counted micro-batch's ‖A₁‖² and count
  Records records;
  GraphCache graphs;
  std::optional<bool> shares;  // whether this cycle's losses are shares; unset before the first
  int64_t declared = -1;       // the batch's own count; −1: none
  int64_t batch_size = -1;     // samples of the whole cycle; −1: not known
  int64_t counted = 0;         // micro-batches in the totals: not dropped
  int64_t overflowed = 0;      // dropped ones whose loss was finite and whose gradient was not
  Phase phase = Phase::idle;
  bool whole = false;  // some operation needs the whole cycle: all tapes are recorded first
  int64_t scopes = 0;  // opened so far; the newest one is alive
  CycleFacts facts;    // what accumulators may know
  MicroStep& micro = facts.micro;
  CycleIndex& index = facts.index;
  int64_t samples_done = 0;
  uint64_t batch = 0;  // hash of the batch's samples, to know it again
  Step step;

  /// Makes the buffers; refuses what cannot work together and says what to use instead.
  CycleState(const Parameters& parameters, CycleOptions options);
  CycleState(const CycleState&) = delete;
  ~CycleState() {
    for (const auto& buffer : buffers) buffer->orphan();
  }

  const std::shared_ptr<GradBuffer>& buffer(const ParameterState& parameter) const;
  std::unique_ptr<Tape> tape(Tape::Run run, std::span<const int64_t> samples);
  /// Throws BadOrder, naming `call`, unless a micro-batch may begin.
  void require_edge(const char* call) const;
  double loss_scale() const { return options.loss_scale ? options.loss_scale->value() : 1; }
  void begin_micro_batch(int64_t samples);
  /// Backward of one micro-batch, as far as the filter lets it.
  void deposit(Tape& tape, const Loss& loss);
  /// The loss scale in the loss's dtype: one tensor at one address, written where it changes.
  const Tensor& cotangent_of(const Tensor& loss);
  void add(const Loss& loss, const Tensor& value);
  void end_micro_batch(int64_t samples);
  /// Finishes all sums. False: the cycle must run again.
  bool finish();
  void clear();
  double count() const;
  /// Σ loss, Σ count; read once where nothing will be added any more.
  std::array<double, 2> read_totals() const;

 private:
  mutable std::optional<std::array<double, 2>> known_totals_;  // of the closed cycle
  void measure_prefix();
  double final_divisor();
  std::optional<double> final_divisor_;  // what sums are divided by in the last micro-batch
};

/// In words, for messages.
const char* phase_name(CycleState::Phase phase);
uint64_t hash_samples(std::span<const int64_t> samples);

}  // namespace accrue
