// Running a tape later, and again: intervals for recomputation, and the keys of random numbers,
// which make a second run draw the same ones.
#include "accrue/autograd/module.h"
#include "accrue/autograd/tape.h"

namespace accrue {

void Tape::run(int32_t first, int32_t last, Keep keep) {
  std::array<Tensor, max_inputs> values;
  std::array<const Tensor*, max_inputs> pointers;
  for (int32_t i = first; i < last; ++i) {
    OperationNode& node = *nodes_[i];
    const Range range(node.device, [&] { return node.label(); });
    const auto inputs = node.inputs();
    for (size_t k = 0; k < inputs.size(); ++k) {
      values[k] = inputs[k].kept ? *inputs[k].kept : inputs[k].node->input();
      pointers[k] = &values[k];
    }
    Saved forgotten;
    node.saved.clear();
    node.value = node.forward(keep == Keep::saved ? node.saved : forgotten,
                              {pointers.data(), inputs.size()});
    for (size_t k = 0; k < inputs.size(); ++k) {
      values[k] = Tensor();
      if (!inputs[k].node || inputs[k].node->index < 0) continue;
      auto& from = static_cast<OperationNode&>(*inputs[k].node);
      if (from.last_use == i && (keep == Keep::saved || from.index >= first)) from.value = Tensor();
    }
    if (node.last_use < 0) node.value = Tensor();
  }
  if (keep == Keep::crossing) return;
  // Backward has been through all that lies beyond. Only the loss's reader comes later: see
  // run_whole.
  for (int32_t i = first; i < last; ++i)
    if (nodes_[i]->last_use >= last && nodes_[i]->last_use < size()) nodes_[i]->value = Tensor();
}

void Tape::begin_interval() {
  if (run_ != Run::at_once) return;  // all of such a tape is run again anyway
  require_order(!in_interval_, "[recompute] expected none inside another, got one; leave that out");
  intervals_.push_back({size(), size()});
  in_interval_ = true;
}

void Tape::end_interval() noexcept {
  if (!in_interval_) return;
  intervals_.back().last = size();
  in_interval_ = false;
}

RandomKey Tape::random_key(const RandomSite& site) {
  const uint64_t name = hash_of(site.seed.value, site.name);
  return {hash_of(name, "call", calls_[name]++), cycle_.value, cycle_at_};
}

void Tape::keys_at(const Tensor& keys) {
  samples_ = keys.slice(0, sample_count());
  cycle_at_ = static_cast<const int64_t*>(keys.slice(sample_count(), 1).in().data);
}

const Tensor& Tape::samples(Device device) {
  require(!sample_indices_.empty(),
          "[random] expected the samples' global indices, got none; try Recording with samples");
  if (!samples_)
    samples_ = Tensor::of<int64_t>({static_cast<int64_t>(sample_indices_.size())}, sample_indices_,
                                   device);
  return samples_;
}

}  // namespace accrue
