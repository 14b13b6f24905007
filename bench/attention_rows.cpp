// Attention, by whom and with what.
#include <cstdio>

#include "accrue/cuda/attention.h"
#include "kernel_rows.h"
#include "timing.h"

namespace accrue::bench {
namespace {

struct Work {
  const KernelSizes& sizes;
  int64_t B, T, H, D;
  double p;
  Tensor qkv, y, logsum, dy, d, samples;

  Work(const KernelSizes& s, int64_t T_, int64_t H_, int64_t D_, double p_)
      : sizes(s), T(T_), H(H_), D(D_), p(p_) {
    B = std::max<int64_t>((s.mib << 20) / static_cast<int64_t>(size_of(s.dtype)) / (3 * T * H * D),
                          1);
    qkv = random_tensor({B, T, 3, H, D}, s.dtype, s.device);
    d = random_tensor({B, T, 3, H, D}, s.dtype, s.device);
    y = random_tensor({B, T, H, D}, s.dtype, s.device);
    dy = random_tensor({B, T, H, D}, s.dtype, s.device);
    logsum = random_tensor({B, H, T}, DType::f32, s.device);
    std::vector<int64_t> numbers(static_cast<size_t>(B));
    for (int64_t i = 0; i < B; ++i) numbers[i] = i;
    samples = Tensor::of<int64_t>({B}, numbers, s.device);
  }
  static Tensor part(const Tensor& all, int i) { return all.slice(2, i, 1).squeeze(2); }
  In dropped() const { return p > 0 ? samples.in() : In{}; }

  kernel::Attention forward() {
    return {
        part(qkv, 0).in(), part(qkv, 1).in(),           part(qkv, 2).in(), y.out(), logsum.out(), p,
        dropped(),         {hash_of(7, "attention"), 1}};
  }
  kernel::AttentionBackward backward() {
    return {part(qkv, 0).in(),
            part(qkv, 1).in(),
            part(qkv, 2).in(),
            y.in(),
            logsum.in(),
            dy.in(),
            part(d, 0).out(),
            part(d, 1).out(),
            part(d, 2).out(),
            Write::set,
            p,
            dropped(),
            {hash_of(7, "attention"), 1}};
  }
};

template <class Args>
nlohmann::ordered_json timed(const Work& work, const Args& args, const char* way, double flops) {
  const double seconds = seconds_per_call(work.sizes.device, work.sizes.repeats,
                                          [&] { launch(work.sizes.device, args); });
  const bool cudnn = !work.sizes.device.on_host() && cuda::why_not_cudnn(args).empty();
  const char* by = cudnn ? "cudnn" : "own";
  std::fprintf(stderr, "  attention %-8s %-5s D %-3ld p %.1f %10.3f ms %8.2f TFLOP/s\n", way, by,
               static_cast<long>(work.D), work.p, seconds * 1e3, flops / seconds * 1e-12);
  return {{"way", way},
          {"by", by},
          {"samples", work.B},
          {"context", work.T},
          {"heads", work.H},
          {"head_size", work.D},
          {"dropout", work.p},
          {"milliseconds", seconds * 1e3},
          {"tflops", flops / seconds * 1e-12}};
}

/// cuDNN's refusal of a shape that it should take. False: it takes it.
template <class Args>
bool refused(const Work& work, const Args& args, const char* way, nlohmann::ordered_json& rows) {
  const std::string why = cuda::why_not_cudnn(args);
  if (why.empty()) return false;
  std::fprintf(stderr, "  attention %-8s cudnn D %-3ld refused: %s\n", way,
               static_cast<long>(work.D), why.c_str());
  rows.push_back({{"way", way}, {"by", "cudnn"}, {"head_size", work.D}, {"refused", why}});
  return true;
}

}  // namespace

nlohmann::ordered_json attention_rows(const KernelSizes& sizes) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  if (!sizes.wants("attention")) return rows;
  struct Choice {
    bool cudnn;
    double p;
  };
  const bool before = cuda::cudnn_attention_is_allowed();
  // cuDNN has none for f32 and f64.
  const bool cudnn = !sizes.device.on_host() && size_of(sizes.dtype) == 2;
  for (const int64_t D : {64, 128})
    for (const Choice choice : {Choice{true, 0}, {false, 0}, {false, 0.1}}) {
      if (choice.cudnn && !cudnn) continue;
      Work work(sizes, 1024, 768 / D, D, choice.p);
      cuda::allow_cudnn_attention(choice.cudnn);
      const double flops = 2.0 * static_cast<double>(work.B * work.H * work.T * work.T * work.D);
      const auto forward = work.forward();
      const auto backward = work.backward();
      if (!choice.cudnn || !refused(work, forward, "forward", rows))
        rows.push_back(timed(work, forward, "forward", flops));
      if (!choice.cudnn || !refused(work, backward, "backward", rows))
        rows.push_back(timed(work, backward, "backward", 2.5 * flops));
    }
  cuda::allow_cudnn_attention(before);
  return rows;
}

}  // namespace accrue::bench
