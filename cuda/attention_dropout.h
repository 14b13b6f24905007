// Keyed dropout of attention's softmax. Element (h·T + t)·T + s of a sample takes one of the four
// draws of quad element / 4; where T is a multiple of four, lanes that share quads share the work.
#pragma once
#include "accrue/cuda/attention_args.h"
#include "accrue/cuda/attention_layout.h"

namespace accrue::cuda {

/// One head of one sample.
struct DropoutHead {
  RandomKey key;
  int64_t sample = 0, first_row = 0;  // h·T
  int length = 0;

  ACCRUE_DEVICE DropoutHead(const DropoutArgs& args, const AttentionSizes& sizes, int b, int h)
      : key(args.key.resolved()),
        sample(args.samples ? args.samples[b * args.stride] : 0),
        first_row(int64_t{h} * sizes.length),
        length(sizes.length) {}

  ACCRUE_DEVICE uint64_t element(int query, int at) const {
    return static_cast<uint64_t>((first_row + query) * length + at);
  }
  ACCRUE_DEVICE uint32_t draw(int query, int at) const {
    const uint64_t e = element(query, at);
    const auto words = key.draw(sample, e / 4);
    const uint32_t low = e & 1 ? words[1] : words[0], high = e & 1 ? words[3] : words[2];
    return e & 2 ? high : low;
  }
};

/// The draws of a lane's four numbers of a 16 × 8 sum of [queries][keys] whose number 0 is at
/// (query, key).
template <class Lanes>
ACCRUE_DEVICE void draw_queries(const Lanes& lanes, const DropoutHead& head, int query, int key,
                                uint32_t (&draws)[4]) {
  if (head.length % 4 != 0) {
    ACCRUE_UNROLL
    for (int i = 0; i < 4; ++i) draws[i] = head.draw(query + i / 2 * 8, key + i % 2);
    return;
  }
  // Two neighbours need the same two quads, of rows 8 apart: each draws one.
  const bool odd = lanes.thread() % 2 != 0;
  const auto words = head.key.draw(head.sample, head.element(query + (odd ? 8 : 0), key) / 4);
  const uint32_t first = lanes.shuffle_xor(odd ? words[0] : words[2], 1);
  const uint32_t second = lanes.shuffle_xor(odd ? words[1] : words[3], 1);
  draws[0] = odd ? first : words[0];
  draws[1] = odd ? second : words[1];
  draws[2] = odd ? words[2] : first;
  draws[3] = odd ? words[3] : second;
}

/// The same for a sum of [keys][queries].
template <class Lanes>
ACCRUE_DEVICE void draw_keys(const Lanes& lanes, const DropoutHead& head, int key, int query,
                             uint32_t (&draws)[4]) {
  if (head.length % 4 != 0) {
    ACCRUE_UNROLL
    for (int i = 0; i < 4; ++i) draws[i] = head.draw(query + i % 2, key + i / 2 * 8);
    return;
  }
  // The four lanes of keys 4j … 4j+3 need the same four quads: each draws that of its number
  // `member`, then they transpose the 4 × 4 words in two exchanges.
  const int member = lanes.thread() / 4 % 4;
  const auto words =
      head.key.draw(head.sample, head.element(query + member % 2, key + member / 2 * 8) / 4);
  const bool upper = member >= 2, odd = member % 2 != 0;
  const uint32_t mine_0 = upper ? words[2] : words[0], mine_1 = upper ? words[3] : words[1];
  const uint32_t other_0 = lanes.shuffle_xor(upper ? words[0] : words[2], 8);
  const uint32_t other_1 = lanes.shuffle_xor(upper ? words[1] : words[3], 8);
  const uint32_t low_0 = upper ? other_0 : mine_0, low_1 = upper ? other_1 : mine_1;
  const uint32_t high_0 = upper ? mine_0 : other_0, high_1 = upper ? mine_1 : other_1;
  const uint32_t low = lanes.shuffle_xor(odd ? low_0 : low_1, 4);
  const uint32_t high = lanes.shuffle_xor(odd ? high_0 : high_1, 4);
  draws[0] = odd ? low : low_0;
  draws[1] = odd ? low_1 : low;
  draws[2] = odd ? high : high_0;
  draws[3] = odd ? high_1 : high;
}

}  // namespace accrue::cuda
