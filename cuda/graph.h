// Graphs of what is enqueued on stream().
#pragma once
#include "accrue/core/graph.h"

namespace accrue::cuda {

extern const GraphCalls graph_calls;

/// Throws Failure, naming the call, while a graph is made: the stream takes nothing else then.
void refuse_in_graph(const char* call);

}  // namespace accrue::cuda
