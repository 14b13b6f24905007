// Products by cuBLASLt.
#include "accrue/cuda/matmul_plan.h"

#include <atomic>
#include <map>
#include <mutex>

#include "accrue/cuda/libraries.h"
#include "accrue/cuda/matmul.h"
#include "accrue/cuda/runtime.h"

namespace accrue::cuda {
namespace {

std::atomic<bool> tf32 = false;

cudaDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return CUDA_R_64F;
    case DType::bf16:
      return CUDA_R_16BF;
    case DType::f16:
      return CUDA_R_16F;
    default:
      return CUDA_R_32F;
  }
}

/// What the choice of an algorithm depends on.
struct Key {
  std::array<int64_t, 6> sizes;
  std::array<uint32_t, 4> alignments;  // of a, b, d and the epilogue's operand, in bytes
  DType in, out;
  bool transpose_a, transpose_b, add, tf32;
  Epilogue epilogue;
  auto operator<=>(const Key&) const = default;
};

/// Null, of a dry run or a workspace that is asked for its size, counts as aligned like any memory.
uint32_t alignment_of(const void* data) {
  constexpr uintptr_t most = 256;
  const auto address = reinterpret_cast<uintptr_t>(data) | most;
  return static_cast<uint32_t>(address & -address);
}

Key key_of(const Gemm& g) {
  return {{g.rows, g.columns, g.terms, g.lda, g.ldb, g.ldd},
          {alignment_of(g.a), alignment_of(g.b), alignment_of(g.d), alignment_of(g.operand)},
          g.in,
          g.out,
          g.transpose_a,
          g.transpose_b,
          g.add,
          g.in == DType::f32 && tf32_is_allowed(),
          g.epilogue};
}

/// Never destroyed: at exit the driver may be gone before it.
cublasLtHandle_t handle() {
  static const cublasLtHandle_t made = [] {
    stream();  // sets the device up
    cublasLtHandle_t handle;
    CUBLAS_CHECK(cublasLtCreate(&handle));
    return handle;
  }();
  return made;
}

/// A product in cuBLASLt's words. Lies on the stack: nothing is allocated.
struct Description {
  cublasLtMatmulDescOpaque_t product;
  cublasLtMatrixLayoutOpaque_t a, b, d;

  explicit Description(const Gemm& g) {
    const bool is_double = g.in == DType::f64;
    const cublasComputeType_t compute = is_double ? CUBLAS_COMPUTE_64F
                                        : g.in == DType::f32 && tf32_is_allowed()
                                            ? CUBLAS_COMPUTE_32F_FAST_TF32
                                            : CUBLAS_COMPUTE_32F;
    CUBLAS_CHECK(cublasLtMatmulDescInit(&product, compute, is_double ? CUDA_R_64F : CUDA_R_32F));
    set(CUBLASLT_MATMUL_DESC_TRANSA, g.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, g.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (g.epilogue == Epilogue::bias) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, g.operand);
      set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, static_cast<int32_t>(type_of(g.out)));
    }
    if (g.epilogue == Epilogue::gelu_slope) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DGELU);
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, g.operand);
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, g.ldd);
    }
    const cudaDataType_t in = type_of(g.in);
    CUBLAS_CHECK(cublasLtMatrixLayoutInit(&a, in, g.transpose_a ? g.terms : g.rows,
                                          g.transpose_a ? g.rows : g.terms, g.lda));
    CUBLAS_CHECK(cublasLtMatrixLayoutInit(&b, in, g.transpose_b ? g.columns : g.terms,
                                          g.transpose_b ? g.terms : g.columns, g.ldb));
    CUBLAS_CHECK(cublasLtMatrixLayoutInit(&d, type_of(g.out), g.rows, g.columns, g.ldd));
  }

 private:
  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(&product, attribute, &value, sizeof value));
  }
};

/// What the choice is limited to.
struct Preference {
  cublasLtMatmulPreferenceOpaque_t limits;

  explicit Preference(const Key& key) {
    CUBLAS_CHECK(cublasLtMatmulPreferenceInit(&limits));
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, size_t{32} << 20);  // what Hopper's kernels want
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.alignments[0]);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.alignments[1]);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.alignments[2]);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.alignments[2]);
  }

 private:
  template <class T>
  void set(cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
    CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(&limits, attribute, &value, sizeof value));
  }
};

/// The first choice of cuBLASLt's heuristics, or nothing: whatever it does not like, another route
/// may do.
std::optional<MatmulPlan> make_plan(const Gemm& g, const Key& key) {
  Description description(g);
  Preference preference(key);
  cublasLtMatmulHeuristicResult_t best;
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle(), &description.product, &description.a, &description.b, &description.d,
      &description.d, &preference.limits, 1, &best, &found);
  const bool refused =
      status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE;
  if (refused || found == 0) return {};
  CUBLAS_CHECK(status);
  CUBLAS_CHECK(best.state);
  return MatmulPlan{best.algo, best.workspaceSize};
}

}  // namespace

void allow_tf32(bool allowed) { tf32 = allowed; }
bool tf32_is_allowed() { return tf32; }

const MatmulPlan* find_plan(const Gemm& gemm) {
  static std::mutex mutex;
  static std::map<Key, std::optional<MatmulPlan>> plans;
  const Key key = key_of(gemm);
  const std::lock_guard lock(mutex);
  auto place = plans.find(key);
  if (place == plans.end()) place = plans.emplace(key, make_plan(gemm, key)).first;
  return place->second ? &*place->second : nullptr;
}

void run_plan(const MatmulPlan& plan, const Gemm& g, void* workspace) {
  Description description(g);
  const double one = 1, zero = 0;
  const float float_one = 1, float_zero = 0;
  const bool is_double = g.in == DType::f64;
  const void* alpha = is_double ? static_cast<const void*>(&one) : &float_one;
  const void* beta = is_double ? static_cast<const void*>(g.add ? &one : &zero)
                               : (g.add ? &float_one : &float_zero);
  CUBLAS_CHECK(cublasLtMatmul(handle(), &description.product, alpha, g.a, &description.a, g.b,
                              &description.b, beta, g.d, &description.d, g.d, &description.d,
                              &plan.algorithm, workspace, plan.workspace, stream()));
}

}  // namespace accrue::cuda
