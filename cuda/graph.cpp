// Graphs by stream capture.
#include "accrue/cuda/graph.h"

#include <atomic>

#include "accrue/cuda/check.h"
#include "accrue/cuda/runtime.h"

namespace accrue::cuda {
namespace {

std::atomic<bool> making = false;

void begin() {
  require_order(!making, "[graphs] expected one graph at a time, got another");
  // Other threads may go on: a loader fills page-locked memory meanwhile.
  CUDA_CHECK(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal));
  making = true;
}

void* end(bool keep) {
  if (!making.exchange(false)) return nullptr;
  Handle<cudaGraph_t, cudaGraphDestroy> graph;
  const cudaError_t ended = cudaStreamEndCapture(stream(), graph.place());
  if (!keep) {
    cudaGetLastError();  // what made the capture invalid was reported where it happened
    return nullptr;
  }
  if (ended != cudaSuccess)
    fail(ended, "cudaStreamEndCapture(stream(), graph.place())", __FILE__, __LINE__);
  Handle<cudaGraphExec_t, cudaGraphExecDestroy> made;
  CUDA_CHECK(cudaGraphInstantiate(made.place(), graph.get(), 0));
  CUDA_CHECK(cudaGraphUpload(made.get(), stream()));
  return std::exchange(*made.place(), nullptr);
}

void replay(void* graph) {
  CUDA_CHECK(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), stream()));
}

// Called by destructors: nothing can be done about an error here.
void free(void* graph) {
  cudaStreamSynchronize(stream());
  cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph));
  cudaGetLastError();  // the next launch is not to be blamed for it
}

}  // namespace

const GraphCalls graph_calls{begin, end, replay, free};

void refuse_in_graph(const char* call) {
  if (making) throw Failure(text("[graphs] expected no ", call, " while a graph is made, got one"));
}

}  // namespace accrue::cuda
