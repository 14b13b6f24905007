// Attention by cuDNN 9, through its C++ header library for graphs.
#include "accrue/cuda/attention_cudnn.h"

#include <cudnn_frontend.h>

#include <map>
#include <memory>
#include <mutex>

#include "accrue/cuda/attention.h"
#include "accrue/cuda/attention_route.h"
#include "accrue/cuda/check.h"
#include "accrue/cuda/runtime.h"

namespace accrue::cuda {
namespace {

namespace fe = cudnn_frontend;
namespace graph = fe::graph;

/// Numbers of a graph's tensors.
enum Uid : int64_t { q_uid = 1, k_uid, v_uid, y_uid, logsum_uid, dy_uid, dq_uid, dk_uid, dv_uid };

struct Plan {
  graph::Graph graph;
  size_t workspace = 0;
  std::string refused;  // why cuDNN does not take it; empty where it does
};

void check(cudnnStatus_t status, const char* call, int line) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  throw Failure(text("[attention] expected ", call, " to succeed, got ",
                     cudnnGetErrorString(status), " at ", file_name(__FILE__), ":", line,
                     "; try CUDNN_LOGLEVEL_DBG=3 for cuDNN's own words"));
}

/// Never destroyed: at exit the driver may be gone before it.
cudnnHandle_t handle() {
  static const cudnnHandle_t made = [] {
    const cudaStream_t to = stream();  // sets the device up
    cudnnHandle_t handle;
    check(cudnnCreate(&handle), "cudnnCreate", __LINE__);
    check(cudnnSetStream(handle, to), "cudnnSetStream", __LINE__);
    return handle;
  }();
  return made;
}

using Tensor = std::shared_ptr<graph::Tensor_attributes>;

/// Says to the graph where a [B, T, H, D] tensor lies; cuDNN's order is B, H, T, D.
template <class InOrOut>
void describe(graph::Tensor_attributes& tensor, Uid uid, const InOrOut& x) {
  tensor.set_uid(uid)
      .set_dim({x.shape[0], x.shape[2], x.shape[1], x.shape[3]})
      .set_stride({x.strides[0], x.strides[2], x.strides[1], x.strides[3]});
}
template <class InOrOut>
void describe_logsum(graph::Tensor_attributes& tensor, const InOrOut& x) {
  tensor.set_uid(logsum_uid)
      .set_dim({x.shape[0], x.shape[1], x.shape[2], 1})
      .set_stride({x.strides[0], x.strides[1], x.strides[2], 1})
      .set_data_type(fe::DataType_t::FLOAT);
}
Tensor input(graph::Graph& graph, Uid uid, const In& x) {
  graph::Tensor_attributes tensor;
  describe(tensor, uid, x);
  return graph.tensor(tensor);
}
void output(const Tensor& tensor, Uid uid, const Out& x) {
  tensor->set_output(true);
  describe(*tensor, uid, x);
}

template <class Args>
float scale_of(const Args& args) {
  return static_cast<float>(sizes_of(args).scale);
}

void describe(graph::Graph& graph, const kernel::Attention& a) {
  const auto options =
      graph::SDPA_attributes().set_generate_stats(true).set_causal_mask(true).set_attn_scale(
          scale_of(a));
  const auto [y, logsum] = graph.sdpa(input(graph, q_uid, a.q), input(graph, k_uid, a.k),
                                      input(graph, v_uid, a.v), options);
  output(y, y_uid, a.y);
  logsum->set_output(true);
  describe_logsum(*logsum, a.logsum);
}

void describe(graph::Graph& graph, const kernel::AttentionBackward& a) {
  graph::Tensor_attributes logsum;
  describe_logsum(logsum, a.logsum);
  const auto options = graph::SDPA_backward_attributes()
                           .set_causal_mask(true)
                           .set_attn_scale(scale_of(a))
                           .set_deterministic_algorithm(true);
  const auto [dq, dk, dv] = graph.sdpa_backward(
      input(graph, q_uid, a.q), input(graph, k_uid, a.k), input(graph, v_uid, a.v),
      input(graph, y_uid, a.y), input(graph, dy_uid, a.dy), graph.tensor(logsum), options);
  output(dq, dq_uid, a.dq), output(dk, dk_uid, a.dk), output(dv, dv_uid, a.dv);
}

template <class Args>
std::unique_ptr<Plan> make_plan(const Args& args) {
  auto plan = std::make_unique<Plan>();
  graph::Graph& graph = plan->graph;
  const auto good = [&plan](fe::error_t error) {
    if (error.is_bad())
      plan->refused = text("code ", static_cast<int>(error.get_code()), ", ", error.get_message());
    return error.is_good();
  };
  graph
      .set_io_data_type(args.q.dtype == DType::bf16 ? fe::DataType_t::BFLOAT16
                                                    : fe::DataType_t::HALF)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  describe(graph, args);
  int64_t bytes = 0;
  const bool built = good(graph.validate()) && good(graph.build_operation_graph(handle())) &&
                     good(graph.create_execution_plans({fe::HeurMode_t::A})) &&
                     good(graph.check_support(handle())) && good(graph.build_plans(handle())) &&
                     good(graph.get_workspace_size(bytes));
  if (!built) return plan;
  // cuDNN's deterministic backward may keep b·h·T·T numbers: beyond 32 times q the own kernels,
  // which keep none, are taken.
  constexpr int64_t most = 32;
  if (bytes > most * args.q.shape.elements() * static_cast<int64_t>(size_of(args.q.dtype)))
    plan->refused = text("its workspace of ", bytes, " bytes is above ", most, " times q");
  plan->workspace = static_cast<size_t>(bytes);
  return plan;
}

using Key = std::vector<int64_t>;
template <class... Tensors>
Key key_of(const Tensors&... tensors) {
  Key key;
  const auto add = [&key](const auto& x) {
    key.push_back(static_cast<int64_t>(x.dtype));
    key.insert(key.end(), x.shape.begin(), x.shape.end());
    key.insert(key.end(), x.strides.begin(), x.strides.end());
  };
  (add(tensors), ...);
  return key;
}
Key key_of(const kernel::Attention& a) { return key_of(a.q, a.k, a.v, a.y, a.logsum); }
Key key_of(const kernel::AttentionBackward& a) {
  return key_of(a.q, a.k, a.v, a.y, a.logsum, a.dy, a.dq, a.dk, a.dv);
}

bool fits(const kernel::Attention& a) { return fits_tensor_cores(a.q, a.k, a.v, a.y); }
bool fits(const kernel::AttentionBackward& a) {
  return fits_tensor_cores(a.q, a.k, a.v, a.y, a.dy, a.dq, a.dk, a.dv);
}
bool adds(const kernel::Attention&) { return false; }
bool adds(const kernel::AttentionBackward& a) { return a.write == Write::add; }

/// Why cuDNN is not even asked; empty where it is.
template <class Args>
std::string why_not(const Args& args) {
  if (!cudnn_attention_is_allowed()) return "not allowed";
  if (args.p > 0) return "it drops";
  if (adds(args)) return "its gradients are added";
  return fits(args) ? "" : "other than bf16 or f16 in whole vectors";
}

/// Null where cuDNN is not asked.
template <class Args>
Plan* find_plan(const Args& args) {
  if (!why_not(args).empty()) return nullptr;
  static std::mutex mutex;
  // Never destroyed: at the program's end cuDNN may be gone before them.
  static auto& plans = *new std::map<Key, std::unique_ptr<Plan>>;
  const Key key = key_of(args);
  const std::lock_guard lock(mutex);
  auto place = plans.find(key);
  if (place == plans.end()) place = plans.emplace(key, make_plan(args)).first;
  return place->second.get();
}

template <class Args>
std::optional<size_t> workspace_of(const Args& args) {
  const Plan* plan = find_plan(args);
  return plan && plan->refused.empty() ? std::optional(plan->workspace) : std::nullopt;
}

template <class Args>
std::string refusal_of(const Args& args) {
  const Plan* plan = find_plan(args);
  return plan ? plan->refused : why_not(args);
}

void* place(const In& x) { return const_cast<void*>(x.data); }

void execute(Plan& plan, std::unordered_map<int64_t, void*> places, void* workspace) {
  fe::error_t error = plan.graph.execute(handle(), places, workspace);
  if (error.is_bad())
    throw Failure(text("[attention] expected cuDNN's graph to run, got code ",
                       static_cast<int>(error.get_code()), " (", error.get_message(), ") at ",
                       file_name(__FILE__), ":", __LINE__,
                       "; try CUDNN_LOGLEVEL_DBG=3 for cuDNN's own words"));
}

}  // namespace

std::optional<size_t> cudnn_workspace(const kernel::Attention& a) { return workspace_of(a); }
std::optional<size_t> cudnn_workspace(const kernel::AttentionBackward& a) {
  return workspace_of(a);
}

std::string cudnn_refusal(const kernel::Attention& a) { return refusal_of(a); }
std::string cudnn_refusal(const kernel::AttentionBackward& a) { return refusal_of(a); }

void run_cudnn(const kernel::Attention& a, void* workspace) {
  execute(*find_plan(a),
          {{q_uid, place(a.q)},
           {k_uid, place(a.k)},
           {v_uid, place(a.v)},
           {y_uid, a.y.data},
           {logsum_uid, a.logsum.data}},
          workspace);
}
void run_cudnn(const kernel::AttentionBackward& a, void* workspace) {
  execute(*find_plan(a),
          {{q_uid, place(a.q)},
           {k_uid, place(a.k)},
           {v_uid, place(a.v)},
           {y_uid, place(a.y)},
           {logsum_uid, place(a.logsum)},
           {dy_uid, place(a.dy)},
           {dq_uid, a.dq.data},
           {dk_uid, a.dk.data},
           {dv_uid, a.dv.data}},
          workspace);
}

}  // namespace accrue::cuda
