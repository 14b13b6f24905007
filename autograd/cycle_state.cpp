// Which buffer, which tape, which call at which moment: what a cycle and its scopes ask of their
// state.
#include "accrue/autograd/cycle_state.h"

namespace accrue {

const char* phase_name(CycleState::Phase phase) {
  constexpr const char* names[] = {"idle", "between two micro-batches", "inside a micro-batch",
                                   "broken by an exception in backward",
                                   "closed and not yet stepped"};
  return names[static_cast<int>(phase)];
}

uint64_t hash_samples(std::span<const int64_t> samples) {
  return hash_of(samples.size(),
                 {reinterpret_cast<const char*>(samples.data()), samples.size_bytes()});
}

GradBuffer& CycleState::buffer(ParameterState& parameter) const {
  const auto found = buffer_of.find(&parameter);
  require(found != buffer_of.end(), "[cycle] expected ", parameter.name,
          " in the cycle or frozen, got "
          "neither; add it to the cycle's parameters, or freeze(parameters(model).matching(\"",
          parameter.name, "\"))");
  return *found->second;
}

std::unique_ptr<Tape> CycleState::tape(Tape::Run run, std::span<const int64_t> samples) {
  return std::make_unique<Tape>(run, std::vector<int64_t>(samples.begin(), samples.end()), index,
                                [this](ParameterState& p) -> GradBuffer& { return buffer(p); });
}

void CycleState::require_edge(const char* call) const {
  require_order(phase == Phase::idle || phase == Phase::edge, "[", call,
                "] expected a cycle that is idle "
                "or between two micro-batches, got one that is ",
                phase_name(phase),
                phase == Phase::closed ? "; step it or drop its ClosedCycle" : "; try discard()");
}

}  // namespace accrue
