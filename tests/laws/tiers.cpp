// Reproducibility: `split` gives the same bits for every micro-batch size, `ranks` for any number
// of ranks too; neither depends on how many threads work. `run` promises none of that.
#include "laws/tiers.h"

namespace accrue::test {
namespace {

std::vector<std::string> bits_of_sums(const ClosedCycle& closed) {
  std::vector<std::string> bits;
  for (const GradBuffer* buffer : closed.buffers()) bits.push_back(bits_of(buffer->state("sum")));
  return bits;
}

// ---- ranks that are not there yet: each part of the batch in a cycle of its own

struct Part {
  int64_t first, count;  // granules
};

// By recursive halving, the left half being the larger.
std::vector<Part> halves(Part whole, int64_t ranks) {
  if (ranks == 1) return {whole};
  const int64_t left = (whole.count + 1) / 2;
  std::vector<Part> all = halves({whole.first, left}, ranks / 2);
  for (const Part& one : halves({whole.first + left, whole.count - left}, ranks / 2))
    all.push_back(one);
  return all;
}

// The sums of one cycle, or another state of its buffers, after `before` others of the whole batch;
// the cycle is dropped, so weights stay.
std::vector<Tensor> sums(const Stage& s, const CycleOptions& options, const TokenBatch& batch,
                         int64_t before, const char* state = "sum") {
  Cycle cycle(parameters(s.model), options);
  for (int64_t i = 0; i < before; ++i)
    (void)cycle.run(s.batch, {.samples = 12}, chunked_loss(s.model));
  const ClosedCycle closed = cycle.run(batch, {.samples = 5}, chunked_loss(s.model));
  std::vector<Tensor> all;
  for (const GradBuffer* buffer : closed.buffers()) {
    const Tensor& sum = buffer->state(state);
    Tensor copy = empty_like(sum);
    launch(sum.device(), kernel::Copy{sum.in(), copy.out(), Write::set});
    all.push_back(copy);
  }
  return all;
}

// to += from. Integers wrap as fixed_point's do; the kernels would add them in f64.
void add(const Tensor& from, Tensor& to) {
  if (to.dtype() != DType::i64)
    return launch(to.device(), kernel::Copy{from.in(), to.out(), Write::add});
  const auto* term = from.data<int64_t>();
  auto* sum = to.data<int64_t>();
  for (int64_t i = 0; i < to.elements(); ++i)
    sum[i] = static_cast<int64_t>(static_cast<uint64_t>(sum[i]) + static_cast<uint64_t>(term[i]));
}

// Roots added pairwise, as the tree over all granules does in its upper levels.
std::vector<Tensor> joined(std::vector<std::vector<Tensor>> roots) {
  while (roots.size() > 1) {
    std::vector<std::vector<Tensor>> next;
    for (size_t i = 0; i < roots.size(); i += 2) {
      for (size_t p = 0; p < roots[i].size(); ++p) add(roots[i + 1][p], roots[i][p]);
      next.push_back(roots[i]);
    }
    roots = next;
  }
  return roots[0];
}

}  // namespace

TEST_CASE("split: the same bits for every micro-batch size and accumulator, f32 and bf16") {
  for (Where where : {single, half})
    for (const auto& accumulator : accumulators::all())
      for (int64_t granule : {1, 2}) {
        CAPTURE(text_of(where));
        CAPTURE(accumulator->name());
        CAPTURE(granule);
        const CycleOptions options{.accumulate = {{"*", accumulator}},
                                   .reproducible = Reproducible::split,
                                   .granule = granule};
        const std::string expected = trained(where, options, 12);
        for (int64_t size : tier_sizes) CHECK(trained(where, options, size) == expected);
      }
}

TEST_CASE("ranks: the same for every accumulator that it allows") {
  for (Where where : {single, half})
    for (const char* name : {"f32", "tree", "fixed_point"})
      for (int64_t granule : {1, 2}) {
        CAPTURE(text_of(where));
        CAPTURE(name);
        const CycleOptions options{.accumulate = accumulators::parse(name),
                                   .reproducible = Reproducible::ranks,
                                   .granule = granule};
        const std::string expected = trained(where, options, 12);
        for (int64_t size : tier_sizes) CHECK(trained(where, options, size) == expected);
        if (std::string(name) == "f32") {
          CycleOptions tree = options;
          tree.accumulate = accumulators::parse("tree");
          CHECK(trained(where, tree, 3) == expected);  // f32 means f32's tree here
        }
      }
}

TEST_CASE("split with filters, with blocks run again: the same bits") {
  for (const auto& filter : {filters::clip(0.5), filters::observe(), filters::agreement(1)}) {
    CAPTURE(filter->name());
    const CycleOptions options{.filter = filter, .reproducible = Reproducible::split};
    const std::string expected = trained(single, options, 12);
    for (int64_t size : {1, 5, 7}) CHECK(trained(single, options, size) == expected);
  }
  for (const Recompute how : {Recompute::none, Recompute::block, Recompute::sqrt}) {
    GptConfig config = with_dropout();
    config.recompute = how;
    const Stage plain(single), again(single, config);
    const CycleOptions options{.reproducible = Reproducible::split};
    Cycle a(parameters(plain.model), options), b(parameters(again.model), options);
    CHECK(bits_of_sums(a.run(plain.batch, {.samples = 3}, chunked_loss(plain.model))) ==
          bits_of_sums(b.run(again.batch, {.samples = 4}, chunked_loss(again.model))));
  }
}

TEST_CASE("run: another micro-batch size gives other bits, and so does another granule in split") {
  for (Where where : {single, half}) {
    const std::string whole = trained(where, {}, 12);
    bool differs = false;
    for (int64_t size : {1, 2, 3, 4, 6, 7}) differs = differs || trained(where, {}, size) != whole;
    CHECK(differs);
    const auto split = [&](int64_t granule) {
      return trained(where, {.reproducible = Reproducible::split, .granule = granule}, 12);
    };
    CHECK(split(1) != split(3));
  }
}

TEST_CASE("by hand, split() hands out granules, and begin() refuses other micro-batches") {
  const Stage s(single);
  for (Reproducible tier : {Reproducible::split, Reproducible::ranks}) {
    const CycleOptions options{.reproducible = tier, .granule = 2};
    Cycle cycle(parameters(s.model), options), other(parameters(s.model), options);
    CHECK(contains(message_of<BadArgument>([&] { (void)cycle.begin(s.batch); }), "split()"));
    const auto micros = cycle.split(s.batch, {.samples = 5});
    CHECK(micros.size() == 6);
    for (const TokenBatch& micro : micros) {
      CHECK(micro.indices.size() == 2);
      MicroScope scope = cycle.begin(micro);
      scope.backward(chunked_loss(s.model)(micro));
    }
    const ClosedCycle a = cycle.close(),
                      b = other.run(s.batch, {.samples = 4}, chunked_loss(s.model));
    CHECK(bits_of_sums(a) == bits_of_sums(b));
  }
}

// fixed_point joins its integers, before they become a sum in f32. Their unit is the same in all
// parts: each has learned it from a cycle of the whole batch before.
TEST_CASE("ranks: cut in 2, 4 or 8 parts and joined, the sums have the bits of the whole") {
  for (Where where : {single, half})
    for (const auto& [name, state] : {std::pair("tree", "sum"), std::pair("fixed_point", "total")})
      for (int64_t granule : {1, 2})
        for (int64_t samples : {12, 11, 9}) {
          CAPTURE(text_of(where));
          CAPTURE(name);
          CAPTURE(granule);
          CAPTURE(samples);
          const Stage s(where);
          const TokenBatch batch = s.batch.slice(0, samples);
          const CycleOptions options{.accumulate = accumulators::parse(name),
                                     .reproducible = Reproducible::ranks,
                                     .granule = granule};
          const auto expected = sums(s, options, batch, 1, state);
          const int64_t granules = (samples + granule - 1) / granule;
          for (int64_t ranks : {2, 4, 8}) {
            if (ranks > granules) continue;  // a rank without samples has no cycle of its own
            std::vector<std::vector<Tensor>> roots;
            for (const Part& part : halves({0, granules}, ranks)) {
              const int64_t first = part.first * granule,
                            last = std::min(samples, (part.first + part.count) * granule);
              roots.push_back(sums(s, options, batch.slice(first, last - first), 1, state));
            }
            const auto whole = joined(roots);
            for (size_t p = 0; p < whole.size(); ++p)
              CHECK(bits_of(whole[p]) == bits_of(expected[p]));
          }
        }
}

TEST_CASE("cut where the tree is not, or in units of their own, parts differ from the whole") {
  const Stage s(single);
  const TokenBatch parts[]{s.batch.slice(0, 5), s.batch.slice(5, 7), s.batch.slice(0, 6),
                           s.batch.slice(6, 6)};
  const auto differs = [](const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
    for (size_t p = 0; p < a.size(); ++p)
      if (bits_of(a[p]) != bits_of(b[p])) return true;
    return false;
  };
  const CycleOptions tree{.reproducible = Reproducible::ranks};
  const auto whole = sums(s, tree, s.batch, 0);
  CHECK(differs(joined({sums(s, tree, parts[0], 0), sums(s, tree, parts[1], 0)}), whole));
  CHECK_FALSE(differs(joined({sums(s, tree, parts[2], 0), sums(s, tree, parts[3], 0)}), whole));

  CycleOptions fixed = tree;
  fixed.accumulate = accumulators::parse("fixed_point");
  const auto total = [&](const TokenBatch& part, int64_t before) {
    return sums(s, fixed, part, before, "total");
  };
  // Any cut will do for integers, but a part that never saw the whole batch has another unit.
  CHECK_FALSE(differs(joined({total(parts[0], 1), total(parts[1], 1)}), total(s.batch, 1)));
  CHECK(differs(joined({total(parts[0], 1), total(parts[1], 0)}), total(s.batch, 1)));
}

TEST_CASE("ranks refuses sums that depend on who adds them") {
  const Stage s(single);
  for (const auto& accumulator : accumulators::all()) {
    const std::string name(accumulator->name());
    const std::string message = message_of<BadArgument>([&] {
      Cycle(parameters(s.model),
            {.accumulate = {{"*", accumulator}}, .reproducible = Reproducible::ranks});
    });
    const bool allowed = name == "f32" || name == "tree" || name == "fixed_point";
    CHECK((message == "nothing was thrown") == allowed);
    if (!allowed) CHECK_MESSAGE((contains(message, name) && contains(message, "tree")), message);
  }
  CHECK_THROWS_AS(Cycle(parameters(s.model), {.granule = 0}), BadArgument);
  CHECK_THROWS_AS(parse_reproducible("strict"), BadArgument);
  for (const char* name : {"run", "split", "ranks"}) CHECK_NOTHROW(parse_reproducible(name));
}

TEST_CASE("split: 1, 2 and 5 threads give the same bits") {
  struct Size {
    int64_t width, context, granule;
  };
  const Device device = cpu_with_fixed_products();
  for (Where where : {Where{device, DType::f32}, Where{device, DType::bf16}})
    for (const auto& [width, context, granule] :
         {Size{8, 6, 1}, Size{128, 64, 1}, Size{128, 64, 4}, Size{384, 256, 2}}) {
      GptConfig config = with_dropout();
      config.width = width;
      config.context = context;
      config.vocabulary = 96;
      const std::vector<int64_t> lengths(4, context);
      const CycleOptions options{.reproducible = Reproducible::split, .granule = granule};
      const auto bits = [&](int threads) {
        const Threads set(threads);
        const Stage s(where, config, lengths);
        Cycle cycle(parameters(s.model), options);
        const ClosedCycle closed = cycle.run(s.batch, {.samples = 4}, [&](const TokenBatch& micro) {
          return cross_entropy(s.model.hidden(micro.tokens), s.model.head(), micro.targets);
        });
        std::vector<std::string> all = bits_of_sums(closed);
        all.push_back(text(std::bit_cast<int64_t>(closed.mean_loss())));
        return all;
      };
      const auto expected = bits(1);
      const Stage named(where, config, lengths);
      for (int threads : {2, 5}) {
        const auto actual = bits(threads);
        for (size_t p = 0; p < actual.size(); ++p) {
          CAPTURE(text_of(where));
          CAPTURE(width);
          CAPTURE(granule);
          CAPTURE(threads);
          const auto& list = parameters(named.model).list;
          const std::string name = p < list.size() ? list[p]->name : "loss";
          CAPTURE(name);
          CHECK((actual[p] == expected[p]));
        }
      }
    }
}

}  // namespace accrue::test
