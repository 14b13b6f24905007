// Graphs of micro-batches: the kernels of one are put into a graph and replayed for all of its
// kind.
//
// A replay runs the same kernels with the same arguments. What changes between micro-batches or
// cycles must therefore lie in device memory, be the same for all of a kind, or stay outside:
//
//   cycle's number in a RandomKey    kernels read it from device memory: RandomKey::cycle_at
//   samples' indices of those keys   a tensor of the graph, written before each replay
//   the batch's tensors              copied into tensors of the graph before each replay; their ids
//                                    are checked in the first of a kind alone
//   loss scale                       in the cotangent, written where it changes, before a replay
//   Write::set or add of a deposit   part of the kind: which sums have been touched
//   weights' working copies          made before a replay where they are stale
//   addresses of inner tensors       the graphs' own pool, which nothing else uses
//   loss and count: totals, records  kept by the graph, added outside by plain launches
//   numbers in folds                 stochastic rounding's key, fixed point's factor, the tree's
//                                    levels, AdamA's divisor: those accumulators run eagerly
//   factors that filters judge       eagerly: they are read on the host in any case
//   a step's numbers in backward     the last micro-batch of in_backward runs eagerly
//   totals of shares, known counts   eagerly: numbers that the closure got from elsewhere
//   the optimizer's step at close    outside: not part of a micro-batch
//
// The first micro-batch of a kind runs eagerly: it makes the libraries' plans and fills the
// allocator's cache, which is all that a graph's allocations are taken from. Private to autograd.
#pragma once
#include <map>

#include "accrue/autograd/cycle_options.h"
#include "accrue/autograd/micro_loss.h"

namespace accrue {

struct CycleState;

class GraphCache {
 public:
  /// Runs micro-batch [first, first + count) of `loss` by a graph of its kind, forward and
  /// backward. False: it is to be run eagerly, and use().why_eager says why. An exception leaves
  /// the cycle as it was, or broken where the replay itself had begun.
  bool run(CycleState& state, std::span<const int64_t> samples, int64_t first,
           const MicroLoss& loss);
  const GraphUse& use() const { return use_; }

  struct Kind {
    std::vector<Tensor> inputs;  // the batch's
    Tensor keys;                 // i64 [B + 1]: samples' indices, the cycle's number
    std::optional<Loss> loss;
    const void* cotangent = nullptr;
    std::vector<bool> touched;  // which sums are, afterwards
    int64_t bytes = 0;          // handed out when backward began
    std::shared_ptr<void> graph;
    int attempts = 0;
    std::string refused = "losses of changing dtypes";  // why there is no graph
  };

 private:
  void capture(CycleState& state, std::span<const int64_t> samples, const MicroLoss::Micro& micro,
               Kind& kind);
  void record(CycleState& state, std::span<const int64_t> samples, const MicroLoss::Micro& micro,
              Kind& kind);

  std::unique_ptr<Allocator::Pool> pool_;  // outlives the graphs
  std::map<std::string, Kind> kinds_;
  GraphUse use_;
};

}  // namespace accrue
