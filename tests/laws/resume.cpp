// Law 5: interrupting at any edge and resuming, also in another process, gives the same bits.
#include <map>

#include "laws/outside.h"

namespace accrue::test {
namespace {

struct Stop : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// All that a program would put in its checkpoint.
struct Checkpoint {
  std::map<std::string, std::string> tensors;  // bytes: an i64 need not fit a double
  std::map<std::string, int64_t> integers;

  template <class T>
  void save(const std::string& of, T& part) {
    Visitor visitor(
        {.parameter = [&](const std::string& name,
                          Parameter& p) { tensors[of + name] = bits_of(p.master()); },
         .tensor = [&](const std::string& name, Tensor& t) { tensors[of + name] = bits_of(t); },
         .integer = [&](const std::string& name, int64_t& n) { integers[of + name] = n; }});
    part.visit(visitor);
  }
  template <class T>
  void load(const std::string& of, T& part) const {
    const auto fill = [&](const std::string& name, Tensor to) {
      const std::string& bytes = tensors.at(of + name);
      REQUIRE(bytes.size() == to.bytes());
      std::memcpy(to.out().data, bytes.data(), bytes.size());
    };
    Visitor visitor(
        {.parameter =
             [&](const std::string& name, Parameter& p) {
               fill(name, p.master());
               p.state()->changed();
             },
         .tensor = fill,
         .integer = [&](const std::string& name, int64_t& n) { n = integers.at(of + name); }});
    part.visit(visitor);
  }
};

// A process: it has a model, an optimizer and a cycle, and knows its data.
struct Process {
  Gpt model;
  TokenBatch batch;
  AdamW optimizer;
  Cycle cycle;
  NoiseScale noise{0.5};  // of what the first micro-batch of each cycle left behind

  static GptConfig config() {
    GptConfig config = tiny_gpt();
    config.dropout = 0.2;
    return config;
  }
  static Gpt made(Where where, uint64_t seed) {
    Gpt model(config());
    initialize(model, {where.device, where.dtype}, Seed{static_cast<int64_t>(seed)});
    return model;
  }
  // By name: an accumulator, or another choice.
  static CycleOptions options(const std::string& name, AdamW& optimizer, int64_t stop_at) {
    CycleOptions options{.at_edge = [stop_at](MicroStep done) {
      if (done.value == stop_at) throw Stop("here");
    }};
    const auto is = [&](const char* one) { return name == one; };
    if (is("adam_a") || is("moments"))
      options.accumulate = {{"*", into_moments(optimizer, is("moments") ? 1 : 0)}};
    else if (is("in_backward"))
      options.consume = in_backward({&optimizer});
    else if (is("agreement"))
      options.filter = filters::agreement(1);
    else if (is("loss scale"))
      options.loss_scale =
          std::make_shared<LossScale>(LossScaleConfig{.initial = 64, .growth_interval = 2});
    else if (is("noise scale"))
      options.noise_scale = true;
    else if (const size_t slash = name.find('/'); slash != std::string::npos) {
      options.reproducible = parse_reproducible(name.substr(0, slash));
      options.accumulate = accumulators::parse(name.substr(slash + 1), outside());
    } else
      options.accumulate = accumulators::parse(name, outside());
    options.skip_non_finite = !is("adam_a") && !is("moments") && !is("in_backward");
    return options;
  }
  Process(Where where, const std::string& accumulator, int64_t weights_seed = 1,
          int64_t stop_at = -1)
      : model(made(where, 1)),
        batch(token_batch(config(), 7, where.device, 5, {6, 2, 5, 6, 0, 1, 6})),
        optimizer(parameters(model), {.lr = 0.01}),
        cycle(parameters(model), options(accumulator, optimizer, stop_at)) {
    if (weights_seed == 1) return;  // else: whatever lay in memory before a checkpoint was loaded
    for (const auto& one : parameters(model).list) {
      launch(where.device, kernel::Fill{one->master.out(), 7});
      one->changed();
    }
  }
  ClosedCycle run(int64_t micro = 2) {
    return cycle.run(batch, {.samples = micro}, chunked_loss(model));
  }
  void step() {
    ClosedCycle closed = run();
    const std::optional<Prefix> prefix = closed.prefix();
    const StepReport report = optimizer.step(std::move(closed));
    CHECK(!report.skipped);
    noise.update(prefix, report);
  }

  Checkpoint save() {
    Checkpoint all;
    all.save("model.", model), all.save("optimizer.", optimizer), all.save("cycle.", cycle);
    all.save("noise.", noise);
    return all;
  }
  void load(const Checkpoint& all) {
    all.load("model.", model), all.load("optimizer.", optimizer), all.load("cycle.", cycle);
    all.load("noise.", noise);
  }
  std::string bits() {
    return weight_bits(parameters(model)) + state_bits(optimizer) + state_bits(cycle) +
           state_bits(noise);
  }
};

const Where wheres[]{{Device::cpu(), DType::f32},
                     {Device::cpu(), DType::bf16},
                     {Device::cpu(), DType::f16},
                     exact()};
// Every accumulator, and every other choice that has a state of its own. Tiers with each
// accumulator in f32 alone: all of them in four dtypes take long under the sanitizers.
std::vector<std::string> choices(Where where) {
  std::vector<std::string> all{"kahan:*.bias,bf16:*.ln_1.*",
                               "adam_a",
                               "moments",
                               "in_backward",
                               "agreement",
                               "loss scale",
                               "noise scale",
                               "split/f32",
                               "ranks/f32"};
  const bool tiers = where.dtype == DType::f32;
  if (tiers) all.insert(all.end(), {"ranks/tree", "ranks/fixed_point"});
  for (const auto& accumulator : every_accumulator()) {
    all.emplace_back(accumulator->name());
    if (tiers && accumulator->name() != "f32") all.push_back(text("split/", accumulator->name()));
  }
  return all;
}

}  // namespace

TEST_CASE("stopping at any edge and running on gives the same bits as never stopping") {
  for (Where where : wheres)
    for (const std::string& name : choices(where)) {
      CAPTURE(text_of(where));
      CAPTURE(name);
      Process whole(where, name);
      whole.step(), whole.step();
      for (int64_t edge : {1, 2, 3, 4}) {
        CAPTURE(edge);
        Process stopped(where, name, 1, edge);
        for (int step = 0; step < 2; ++step) {
          CHECK_THROWS_AS((void)stopped.run(), Stop);
          CHECK(stopped.cycle.micro_batches() == MicroStep{edge});
          stopped.step();  // at_edge is not called again for what is done
        }
        CHECK(stopped.bits() == whole.bits());
      }
    }
}

TEST_CASE("a checkpoint from within a cycle, loaded into another process, gives the same bits") {
  for (Where where : wheres)
    for (const std::string& name : choices(where)) {
      CAPTURE(text_of(where));
      CAPTURE(name);
      Process whole(where, name);
      whole.step(), whole.step(), whole.step();
      for (int64_t edge : {1, 3, 4}) {
        CAPTURE(edge);
        Checkpoint saved;
        {
          Process first(where, name, 1, edge);
          CHECK_THROWS_AS((void)first.run(), Stop);
          first.step();  // one whole cycle, then a part of the second
          CHECK_THROWS_AS((void)first.run(), Stop);
          saved = first.save();
        }
        Process second(where, name, /*weights_seed=*/2);
        second.load(saved);
        CHECK(second.cycle.micro_batches() == MicroStep{edge});
        CHECK(second.cycle.step() == Step{1});
        second.step(), second.step();
        CHECK(second.bits() == whole.bits());
      }
    }
}

TEST_CASE("a checkpoint between cycles holds no sums, and gives the same bits") {
  Process whole(wheres[0], "kahan"), first(wheres[0], "kahan"), second(wheres[0], "kahan", 2);
  whole.step(), whole.step();
  first.step();
  const Checkpoint saved = first.save();
  for (const auto& [name, numbers] : saved.tensors) CHECK(!contains(name, "cycle."));
  second.load(saved);
  second.step();
  CHECK(second.bits() == whole.bits());
}

TEST_CASE("a cycle that was under way forgets its own when it loads another's") {
  Process whole(wheres[0], "f32"), other(wheres[0], "f32", 1, 3), idle(wheres[0], "f32");
  const Checkpoint fresh = idle.save();
  CHECK_THROWS_AS((void)other.run(), Stop);
  other.load(fresh);
  CHECK(other.cycle.micro_batches() == MicroStep{0});
  CHECK_THROWS_AS((void)other.run(), Stop);
  other.step();
  whole.step();
  CHECK(other.bits() == whole.bits());
}

TEST_CASE("forgetting a part of the state would show") {
  const std::pair<std::string, std::string> parts[]{
      {"kahan", "cycle.totals"},
      {"kahan", "optimizer.mean.transformer.wte.weight"},
      {"kahan", "cycle.transformer.wte.weight.sum"},
      {"kahan", "cycle.transformer.wte.weight.carry"},
      {"noise scale", "cycle.prefix"}};
  for (const auto& [choice, part] : parts) {
    CAPTURE(part);
    Process whole(wheres[0], choice), first(wheres[0], choice, 1, 3), second(wheres[0], choice, 2);
    whole.step(), whole.step();
    CHECK_THROWS_AS((void)first.run(), Stop);
    first.step();
    CHECK_THROWS_AS((void)first.run(), Stop);
    Checkpoint saved = first.save();
    REQUIRE(saved.tensors.contains(part));
    // In the exponents: a carry's last bits are far below what its sum can hold.
    for (size_t i = 3; i < saved.tensors[part].size(); i += 4) saved.tensors[part][i] ^= 0x04;
    second.load(saved);
    bool shows = false;
    try {
      second.step();
      shows = second.bits() != whole.bits();
    } catch (const BadArgument&) {  // the batch knows its own total
      shows = part == "cycle.totals";
    }
    CHECK(shows);
  }
}

TEST_CASE("a loaded cycle knows its batch again, and refuses another") {
  Process first(wheres[0], "f32", 1, 2), second(wheres[0], "f32", 2);
  CHECK_THROWS_AS((void)first.run(), Stop);
  second.load(first.save());
  second.batch.indices[0] += 1;
  CHECK_THROWS_AS((void)second.run(), BadOrder);
}

TEST_CASE("a sum under way goes on with micro-batches of another size and loses nothing") {
  // Of all sums together: that of a key's bias alone is rounding.
  const auto all_of = [](const ClosedCycle& closed) {
    Numbers all;
    for (const Numbers& one : sums_of(closed)) all.insert(all.end(), one.begin(), one.end());
    return all;
  };
  for (const auto& accumulator : accumulators::all()) {
    const std::string name(accumulator->name());
    const Where where = exact();
    Process whole(where, name);
    const Numbers expected = all_of(whole.run());
    // Law 1 in f64; sums of bf16 by some 40 deposits, off by 2⁻⁹ each, as good as random; rounded
    // once to units of at most 2⁻²⁴ of the largest gradient.
    const double allowed = name.starts_with("bf16") ? 0.05
                           : name == "fixed_point"  ? 7 * 0x1p-24
                                                    : 1e-12;
    for (int64_t size : {1, 3, 5}) {
      CAPTURE(name);
      CAPTURE(size);
      Process stopped(where, name, 1, 2);  // after four of seven samples
      CHECK_THROWS_AS((void)stopped.run(), Stop);
      Process resumed(where, name, 2);
      resumed.load(stopped.save());
      CHECK(relative_error(all_of(resumed.run(size)), expected) <= allowed);
    }
    Process forgetful(where, name);  // the same from the fifth sample on, without what was summed
    forgetful.batch = forgetful.batch.slice(4, 3);
    CHECK(relative_error(all_of(forgetful.run()), expected) > allowed);
  }
}

}  // namespace accrue::test
