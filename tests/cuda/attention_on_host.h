// The CUDA backend's attention kernels, run by the host: a backend for the table of kernel cases.
#pragma once
#include "accrue/cuda/attention_forward.h"
#include "accrue/cuda/attention_keys.h"
#include "accrue/cuda/attention_plain.h"
#include "accrue/cuda/attention_queries.h"
#include "accrue/cuda/attention_route.h"
#include "cuda/host_lanes.h"

namespace accrue::test {

/// The order of a block's threads: every call of a kernel turns it round.
inline bool last_thread_first = false;

/// Runs body(lanes, shared memory) for each thread of each block, which shares NaN at first.
template <class Body>
void run_blocks(int64_t blocks, int threads, size_t shared_bytes, const Body& body) {
  struct alignas(128) Line {
    std::array<unsigned char, 128> bytes;
  };
  std::vector<Line> shared((shared_bytes + sizeof(Line) - 1) / sizeof(Line));
  for (Line& line : shared) line.bytes.fill(0xff);
  HostBlock::run(blocks, threads, last_thread_first,
                 [&](const HostLanes& lanes) { body(lanes, shared.data()); });
}

inline int64_t plain_blocks_of(const cuda::AttentionSizes& sizes) {
  return cuda::blocks_of(sizes, cuda::plain::rows) * cuda::plain::chunks_of(sizes.width);
}

template <class T>
void forward_on_tiles(const cuda::ForwardArgs<T, float>& args) {
  cuda::with_cut(args.sizes.width, args.dropout.threshold > 0, [&](auto width, auto dropout) {
    using Cut = cuda::ForwardCut<T, width, dropout>;
    run_blocks(cuda::blocks_of(args.sizes, Cut::queries), cuda::block_threads, Cut::shared,
               [&](const HostLanes& lanes, void* shared) {
                 cuda::ForwardBlock<Cut, HostLanes>(lanes, args, shared).run();
               });
  });
}

template <class T, class Wide>
void forward_plainly(const cuda::ForwardArgs<T, Wide>& args) {
  using Shared = cuda::plain::Shared<Wide>;
  run_blocks(plain_blocks_of(args.sizes), cuda::plain::threads, sizeof(Shared),
             [&](const HostLanes& lanes, void* shared) {
               cuda::PlainForward<T, Wide, HostLanes> block(lanes, args.sizes,
                                                            *static_cast<Shared*>(shared));
               block.run(args);
             });
}

inline void attention_on_host(const kernel::Attention& a, void*) {
  last_thread_first = !last_thread_first;
  cuda::with_formats(a.q.dtype, [&]<class T, class Wide>(T, Wide) {
    const auto args = cuda::args_of<T, Wide>(a);
    if constexpr (sizeof(T) == 2)
      if (cuda::fits_tensor_cores(a)) return forward_on_tiles(args);
    forward_plainly(args);
  });
}

template <class T>
void backward_on_tiles(const cuda::BackwardArgs<T, float>& args) {
  cuda::with_cut(args.sizes.width, args.dropout.threshold > 0, [&](auto width, auto dropout) {
    using Queries = cuda::QueryCut<T, width, dropout>;
    run_blocks(cuda::blocks_of(args.sizes, Queries::queries), cuda::block_threads, Queries::shared,
               [&](const HostLanes& lanes, void* shared) {
                 cuda::QueryBlock<Queries, HostLanes>(lanes, args, shared).run();
               });
    using Keys = cuda::KeyCut<T, width, dropout>;
    run_blocks(cuda::blocks_of(args.sizes, Keys::keys), cuda::block_threads, Keys::shared,
               [&](const HostLanes& lanes, void* shared) {
                 cuda::KeyBlock<Keys, HostLanes>(lanes, args, shared).run();
               });
  });
}

template <class T, class Wide>
void backward_plainly(const cuda::BackwardArgs<T, Wide>& args) {
  using Shared = cuda::plain::Shared<Wide>;
  using Block = cuda::PlainBackward<T, Wide, HostLanes>;
  for (const bool queries : {true, false})
    run_blocks(plain_blocks_of(args.sizes), cuda::plain::threads, sizeof(Shared),
               [&](const HostLanes& lanes, void* shared) {
                 Block block(lanes, args.sizes, *static_cast<Shared*>(shared));
                 queries ? block.run_queries(args) : block.run_keys(args);
               });
}

inline void attention_backward_on_host(const kernel::AttentionBackward& a, void* workspace) {
  last_thread_first = !last_thread_first;
  cuda::with_formats(a.q.dtype, [&]<class T, class Wide>(T, Wide) {
    const auto args = cuda::args_of<T, Wide>(a, workspace);
    constexpr int rows = cuda::plain::threads / cuda::warp_size;
    const int64_t dots = a.logsum.shape.elements();
    run_blocks((dots + rows - 1) / rows, cuda::plain::threads, 0,
               [&](const HostLanes& lanes, void*) { cuda::dot_rows(lanes, args); });
    if constexpr (sizeof(T) == 2)
      if (cuda::fits_tensor_cores(a)) return backward_on_tiles(args);
    backward_plainly(args);
  });
}

/// The reference backend, but for attention.
inline Backend attention_backend() {
  Backend backend = *Device::reference().backend;
  std::get<Kernel<kernel::Attention>>(backend.kernels) = {nullptr, attention_on_host};
  std::get<Kernel<kernel::AttentionBackward>>(backend.kernels) = {cuda::dots_bytes,
                                                                  attention_backward_on_host};
  return backend;
}

}  // namespace accrue::test
