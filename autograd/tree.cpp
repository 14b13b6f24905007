// A fixed binary tree over the micro-batches: each sum of two subtrees is rounded once, so a term
// passes log₂K roundings. Pending subtrees lie on a stack of levels.
#include <algorithm>
#include <bit>
#include <charconv>
#include <span>
#include <utility>

#include "accrue/autograd/accumulators.h"
#include "accrue/autograd/grad_buffer.h"
#include "accrue/core/map.h"

namespace accrue {
namespace {

constexpr int64_t most_levels = 48;

std::string level(int64_t i) { return text("level", i); }

/// How many subtrees end with this leaf. Their number known: by recursive halving, the left half
/// being the larger; else like a binary counter. For powers of two these are the same.
int64_t ending_with(int64_t leaf, int64_t leaves) {
  if (leaves < 0) return std::countr_one(static_cast<uint64_t>(leaf));
  int64_t first = 0, n = leaves, count = 0;
  while (n > 1) {
    const int64_t left = (n + 1) / 2;
    count += leaf == first + n - 1;
    if (leaf < first + left) {
      n = left;
    } else {
      first += left;
      n -= left;
    }
  }
  return count;
}

/// terms[n−1] += terms[n−2] + (… + terms[0]): as few passes as the formulas allow.
void add_all(std::span<Tensor> terms) {
  size_t last = 0;  // holds the sum of terms 0 … last
  while (last + 1 < terms.size()) {
    const size_t more = std::min<size_t>(terms.size() - 1 - last, 3);
    const auto in = [&](size_t i) { return terms[last + i].in(); };
    Tensor& sum = terms[last + more];
    if (more == 1) map(fold::Add{}, sum.device(), {sum.out()}, {in(0)});
    if (more == 2) map(fold::AddTwo{}, sum.device(), {sum.out()}, {in(1), in(0)});
    if (more == 3) map(fold::AddThree{}, sum.device(), {sum.out()}, {in(2), in(1), in(0)});
    last += more;
  }
}

/// A buffer's stack. A subtree without deposits is exactly zero and has no memory.
struct Stack {
  GradBuffer& buffer;
  int64_t& leaves = buffer.number("leaves");
  int64_t& depth = buffer.number("depth");
  int64_t& present = buffer.number("present");  // bit i: level i has numbers

  /// Joins the last `count` + 1 subtrees from the right, in one pass over their numbers.
  void merge(int64_t count) {
    const int64_t below = depth - 1 - count;
    std::vector<Tensor> terms;  // from the last to the first
    for (int64_t i = depth - 1; i >= below; --i) {
      Tensor& one = buffer.slot(level(i));
      if (present >> i & 1) terms.push_back(std::exchange(one, Tensor()));
    }
    present &= (int64_t{1} << below) - 1;
    depth = below + 1;
    if (terms.empty()) return;
    add_all(terms);
    buffer.slot(level(below)) = terms.back();
    present |= int64_t{1} << below;
  }

  /// The next leaf; without memory: zero.
  void push(const Tensor& leaf) {
    require(depth < most_levels,
            "[tree] expected at most 2⁴⁸ micro-batches, got more; try larger ones");
    buffer.slot(level(depth)) = leaf;
    if (leaf) present |= int64_t{1} << depth;
    ++depth;
    // Fewer where a resumed cycle goes on with micro-batches of another size, in other subtrees.
    const int64_t joined = ending_with(leaves++, buffer.facts().micro_batches);
    if (joined && depth > 1) merge(std::min(joined, depth - 1));
  }

  void skip_to(int64_t leaf) {
    while (leaves < leaf) push({});
  }
};

struct Tree final : Accumulator {
  std::string_view name() const override { return "tree"; }
  bool fused() const override { return false; }
  bool running_sum() const override { return false; }
  bool whole_micro() const override { return true; }
  double error_bound(int64_t k) const override {
    return static_cast<double>(std::bit_width(static_cast<uint64_t>(k - 1))) * 0x1p-24;
  }
  double bytes_per_weight(int64_t k, DType wide) const override {
    const int levels = std::bit_width(static_cast<uint64_t>(k)) + 1;
    return static_cast<double>(size_of(wide)) * levels;
  }
  std::vector<State> state(DType wide, const Shape&) const override {
    std::vector<State> all{{"sum", wide}};
    for (int64_t i = 0; i < most_levels; ++i) all.push_back({level(i) + '?', wide});
    return all;
  }
  std::vector<std::string> numbers() const override { return {"leaves", "depth", "present"}; }
  bool live(const GradBuffer& buffer, std::string_view state) const override {
    if (state == "sum") return false;
    int64_t i = 0;
    std::from_chars(state.data() + 5, state.data() + state.size(), i);
    return buffer.number("present") >> i & 1;
  }
  void fold(GradBuffer& buffer, In, Write write) const override {
    Stack stack{buffer};
    if (write == Write::set) stack.leaves = stack.depth = stack.present = 0;
    stack.skip_to(buffer.facts().micro.value);
    stack.push(buffer.micro());
  }
  bool finish(GradBuffer& buffer) const override {
    Stack stack{buffer};
    stack.skip_to(buffer.facts().micro_batches);
    if (stack.depth > 1) stack.merge(stack.depth - 1);
    Tensor& root = buffer.slot(level(0));
    Tensor& sum = buffer.state("sum");
    launch(sum.device(), kernel::Copy{root.in(), sum.out(), Write::set});
    root = Tensor();
    return true;
  }
};

}  // namespace

std::shared_ptr<const Accumulator> accumulators::tree() { return std::make_shared<Tree>(); }

}  // namespace accrue
